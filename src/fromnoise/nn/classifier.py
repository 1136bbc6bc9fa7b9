"""A small convolutional classifier of pictures: the judge of what was sampled under a label."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from fromnoise.nn.pictures import Shape, Width


class Classifier(nn.Module):
    """Two stages of two convolutions with batch norm, each halving the sides, then features and one logit a label.

    Args:
        shape: channels, height and width of a picture.
        classes: the number of labels.
        widths: the channels of the two stages.
        features: the length of what is said before the labels.
    """

    def __init__(
        self,
        shape: Shape,
        classes: Annotated[int, Field(ge=2)],
        widths: tuple[Width, Width] = (16, 48),
        features: Width = 128,
    ) -> None:
        super().__init__()
        self.shape, self.classes = shape, classes
        layers, before = list[nn.Module](), shape[0]
        for width in widths:
            for _ in range(2):
                layers += [nn.Conv2d(before, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
                before = width
            layers.append(nn.AvgPool2d(2, ceil_mode=True))
        self.stages = nn.Sequential(*layers)
        height, across = (math.ceil(math.ceil(side / 2) / 2) for side in shape[1:])
        self.hidden = nn.Linear(before * height * across, features)
        self.last = nn.Linear(features, classes)

    def features(self, x: Tensor) -> Tensor:
        """Return the features `[B, features]` of pictures `[B, C, H, W]` of about unit variance."""
        return F.relu(self.hidden(self.stages(x).flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits `[B, classes]`."""
        return self.last(self.features(x))
