"""What we remember: documents, state, vectors, analytics and blobs, embedded or served."""
