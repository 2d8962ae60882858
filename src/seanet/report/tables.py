"""Recipes as lines of text."""

from seanet.config import ClassicMask, Config, EdgeMask, FcnBox


def describe(config: Config) -> str:
    """One line about a recipe, from its settings."""
    code = ", as the authors' code does it" if config.recipe.endswith("_paper_code") else ""
    size = f"{config.data.short_sides[-1]} px" + (", made for a CPU" if "lite" in config.recipe.split("_") else "")
    line = ", ".join([method(config), *changes(config)])
    if line == "SEANet":
        line += ": convolutional box head with B-IoU, mask head with edge attention"
    return f"{line}{code}; {config.backbone.name.removeprefix('timm/')}, {size}"


def method(config: Config) -> str:
    """The family and the heads in it."""
    family = "Cascade Mask R-CNN" if config.cascade.ious else "Mask R-CNN"
    if config.scoring.kind == "mask_iou":
        family = family.replace("Mask R-CNN", "Mask Scoring R-CNN")
    match isinstance(config.box, FcnBox), isinstance(config.mask, EdgeMask):
        case True, True:
            return "SEANet" if family == "Mask R-CNN" else f"SEANet's heads in {family}"
        case True, False:
            return f"{family} with SEANet's box head"
        case False, True:
            return f"{family} with SEANet's mask head"
    return family


def changes(config: Config) -> list[str]:
    """What an ablation leaves out or does in another way."""
    found = ["pooling from all levels"] if config.pool.kind == "fused" else []
    if isinstance(config.box, FcnBox) and not config.box.iou_weight:
        found.append("no B-IoU")
    if isinstance(config.mask, ClassicMask):
        return found
    absent = {
        "no channel attention": not config.mask.channel_attention,
        "no position attention": not config.mask.position_attention,
        "no edge supervision": not config.mask.edge_weight,
        "edge path concatenated": config.mask.design == "concat",
    }
    return found + [name for name, true in absent.items() if true]
