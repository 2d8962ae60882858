"""What a pickle describes, without running it: tensors, arrays and plain values out of a stranger's checkpoint.

A pickle is a program that may import and call anything.  ``operations`` reads it step by step onto the stack of ``machine``,
which answers with the few lines of ``described``: no global of the file is ever imported or called.  Those that rebuild
tensors and arrays give descriptions whose sizes are checked, those that checkpoints of known frameworks hold beside their
weights become inert ``StandIn`` objects, and every other makes the file ``Refused``.
"""
