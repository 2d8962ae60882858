"""Training: ``train(config, data, out)``.  Needs the extra ``train``; lightning is imported when a run begins."""

from seanet.training.coco import train as train
from seanet.training.run import Run as Run
