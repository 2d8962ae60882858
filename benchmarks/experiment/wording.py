"""What a person wrote for docs/results.md: how to read figures, never how they came out.  Fields are filled in by ``page``."""

QUESTION = """\
# Does it work?

The paper says that edge attention and the box head with B-IoU give better masks, above all at their boundaries, at an
equal recipe. Its experiments need COCO and days of many GPUs. This page asks the same question of what a small
machine can answer: the same two heads on a small backbone, synthetic images that are made of the failures the
paper names, equal data, equal seeds and an equal schedule for every row. `python benchmarks/results.py` writes this
page from the records in `benchmarks/experiment/records`; figures and the words *better*, *worse* and *no difference
seen* are put in by code."""

KEY = """\
TA@R is the share of pixels labelled right in a band of that width around the true boundary, 0 for objects that were
missed. Brackets hold intervals of 95 %; ( ) and ¹ mark fewer than three seeds. What each word asks for stands in
[How sure the figures are](#how-sure-the-figures-are)."""

OTHERWISE = """\
The same comparison after more steps, on photographs after those, and with equal pooling: the authors' SEANet pools RoIs
from all levels of the pyramid, their baseline from one, as their parameters show. In bold what is better or worse; of the
rest no difference is sure, on photographs because nobody knows how far seeds stray there."""

DATA = """\
## The data

`seanet data synth --preset boundary` draws {train} images to train on and {val} to measure by, of {size} px. A
quarter each shows one failure: `box`, thin far parts that decide the box; `blur`, a soft boundary; `clutter`, crowded
overlaps of like colour; and `none`, none of them. Truth is exact to the pixel."""

SURE_HOW = """\
## How sure the figures are

Images are drawn with replacement, {resamples} times, the same for every row and seed; an interval in [ ] holds the
middle 95 % of the differences, with the pairs of seeds drawn as well. With three seeds that part is rough, so the
difference of each seed stands beside it. An interval in ( ) is of images alone, where fewer than three seeds ran
(marked ¹). *Better* and *worse*, in bold, need two things: the interval excludes zero, and the difference is larger
than seeds alone would make it, which is t x sd x sqrt(2 / seeds) with the standard deviation over seeds pooled over
all rows trained with several, and Student's t of its degrees of freedom (97.5 %). What passes the first alone is
*within noise*, or *noise unknown* where no row has several seeds. Rows that read the same weights have no noise of
seeds. Many figures stand on this page: of twenty that differ by luck alone, about one looks sure.

AP is COCO's; boundary AP uses Boundary IoU; TA is the share of pixels labelled right in a band around the true
boundary, of objects found, and TA@R counts 0 for objects that were missed ([paper.md](paper.md#boundaries)). All are
in percent."""

LIMITS = """\
## What this does not show

- Synthetic images, whose objects differ by outline alone, are not photographs: gains need not carry over in size or
  even in sign.
- A small backbone (MobileNet with ImageNet's weights) at {size} px is not ResNet-101 at 800 px, where a mask of 28 x
  28 cells is much coarser than its object.
- {steps} steps of {batch} images are a short schedule: what is compared is how far the two have come by then, and a
  head with more parameters may need longer to pay.
- Few seeds. A row with one seed can hide or show a difference by luck; its verdict says only what is beyond the noise
  measured.
- Nothing here repeats the paper's own figures: no row was trained on COCO."""

REPEAT = """\
## Repeat it

```
python benchmarks/ablation.py --preset {preset} --rows main
python benchmarks/results.py --preset {preset} --out runs/ablation/{preset}
```

The first command draws the data, trains both main rows with all seeds and goes on where it was interrupted; `--rows
all` runs every row here, `--list` shows them. The second one measures the differences and writes this page, its
charts and its pictures; without `--out` it does so from the records alone."""

BY_FAILURE = """\
Where the box head with B-IoU helps, boxes of thin far parts should gain (`box`); where edge attention helps, soft and
crowded boundaries should (`blur`, `clutter`); `none` is what is left. Each kind is a quarter of the images, so its
intervals are about twice as wide. The table shows differences, in bold what is better or worse."""

BOXES = """\
Of each row, as many detections as there are objects, those with the highest box scores, in percent:

- *true*: IoU of boxes at least .5 with an object of their class that no better-scored one has;
- *duplicate*: the same, but the object is taken;
- *wrong class*: IoU at least .5 with objects of other classes alone;
- *off*: IoU .1 to .5 with an object of their class, or of another (*off, wrong class*); and *background*, the rest.

*Reached* is the share of all objects that some detection of their class overlaps by .5 or .75, whatever its score, of up
to 100 an image. Where two rows reach as many but one has fewer true ones, its scores rank its boxes worse. Scores are
medians, of the true and of the false ones; AP depends on their order, not on their height. Means over seeds, without
intervals."""

MASKS = """\
Here masks are predicted in the true boxes and for the true classes, so that neither boxes nor scores have a part in it.
The last line is what a mask of so many cells can show at most: the truth, cut into the cells and pasted back. In percent,
but for the offset: how many pixels masks are too large (+) or too small (−). What lies further from Mask R-CNN than seeds
alone would make it is in bold; no difference is seen in the rest."""

PICTURES = """\
## Pictures

Of the first seed: the image, the truth, and both masks with the share of pixels they label right in the band of 3 px. Gains
and losses are the four largest of objects that both found, one an image at most."""

POOLING = """\
RoIs read from the one level that fits their size, as in Mask R-CNN, or from all levels through two 1 x 1 convolutions, as
in the authors' code; the latter in SEANet's mask head alone, in both recipes and between them. In small images nearly every
RoI fits the finest level, which sees least around it; `coarse` sends RoIs to those they would fit in images of 800 px."""

SWITCHED = """\
The default against its alternatives, one setting at a time; row n is that of [the table of
gaps](paper.md#what-the-paper-leaves-open)."""

READ = """\
Nothing is trained: the weights of a row are read with another setting. Row n is that of [the table of
gaps](paper.md#what-the-paper-leaves-open)."""

EQUALLED = """\
The two recipes suppress boxes at different IoUs (.6 and .5), and settings could favour one of them. So SEANet stands
beside Mask R-CNN once more with equal suppression, with settings changed in both, and beside one that alone pools from
all levels."""

OTHERS = {
    "cpu_long": """\
## A longer schedule

The main rows once more on the same data, with more steps, and those of equal pooling. Where no row has several seeds, how
far seeds stray is taken from the shorter runs.""",
    "photographs": """\
## On photographs

The same two recipes, fine-tuned on a few hundred photographs of COCO from the weights of the longer schedule. Its 80
classes are made one, "object": so few photographs and steps teach none of 80 well enough to measure, and outlines are
what is asked about. Where no row has several seeds, nobody knows how far seeds stray.""",
    "gpu": "## On a GPU\n\nThe preset `gpu`: larger images and a longer schedule.",
}
