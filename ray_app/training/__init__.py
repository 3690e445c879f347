"""Change our mind: fit, evaluate, gate, register."""
