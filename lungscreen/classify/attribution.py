"""What a network looked at: its own feature maps, weighed by what they did to the suspicion.

HiResCAM (Draelos and Carin 2020, arXiv:2011.08891): each place's share is the sum over channels of gradient times
feature. Grad-CAM averages the gradient over the map first, which would smear it here, since these maps are pooled
inside an outline and places differ in what they count. Features are taken against what is usual in the same cube (each
channel's median), so that a share says what a place did beside plain lung; against 0, quiet surroundings would light up
wherever the nodule itself speaks against suspicion.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from lungscreen.classify.network import Network

__all__ = ["heat_of"]

Seen = tuple[Sequence[Tensor], Tensor]
"""A network's feature maps and its outline's logits."""


def heat_of(members: Sequence[Network], patch: Tensor, seen: Sequence[Seen]) -> Tensor:
    """(n, 1, p, p, p) and what each member saw of it → (n, p, p, p): 0 where a place did not raise the suspicion, 1
    where it did and no place counted more, for or against.
    """
    total = torch.zeros_like(patch[:, 0])
    for member, (maps, outline) in zip(members, seen, strict=True):
        total += _shares(member, patch, maps, outline)
    return total.clamp(min=0) / total.abs().amax((1, 2, 3), keepdim=True).clamp(min=1e-12)


def _shares(member: Network, patch: Tensor, maps: Sequence[Tensor], outline: Tensor) -> Tensor:
    """What each voxel added to or took from the mean of the four malignancy logits."""
    with torch.enable_grad():
        leaves = [one.detach().float().clone().requires_grad_() for one in maps]
        inside = torch.sigmoid(outline).clone()
        suspicion = member.judge(patch.clone(), leaves, inside)[:, :4].mean(1).sum()
        gradients = torch.autograd.grad(suspicion, leaves)
    total = torch.zeros_like(patch[:, 0])
    for leaf, gradient in zip(leaves, gradients, strict=True):
        usual = leaf.flatten(2).median(dim=2).values[:, :, None, None, None]
        share = ((leaf - usual) * gradient).sum(1, keepdim=True).detach()
        # a coarse voxel's share is spread over the fine ones that it stands for
        share = share * (share[0].numel() / total[0].numel())
        total += functional.interpolate(share, total.shape[1:], mode="trilinear", align_corners=False)[:, 0]
    return total
