"""Programs of other stream engines that do what a flow of ours does; each runs in an environment of its own."""
