"""Strangers' Python in a child that the kernel holds: who looks at it first (`review`), and what it is held by (`confine`)."""
