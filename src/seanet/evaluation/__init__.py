"""How good is a model: the numbers of COCO, by a library that reproduces them."""
