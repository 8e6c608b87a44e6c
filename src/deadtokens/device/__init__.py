"""The direct draw on a GPU, or any device that torch drives: the same trials, bit for bit.

Only `deadtokens.device.choice` may be imported without torch.
"""
