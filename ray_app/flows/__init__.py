"""One file a flow: what it reads, what an event changes, what it promises."""
