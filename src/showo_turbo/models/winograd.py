"""3x3 convolutions at two thirds of the work (Winograd's F(2, 3), along rows; Lavin and Gray, arXiv 1509.09308).

    4 pixels of a row --sums--> 4 numbers --times 4 of the kernel, over 3 rows and all channels--> 4 --sums--> 2 pixels

Sums are additions of whole maps, and the middle is four 3x1 convolutions of maps of half the width. The result is that
of the 3x3 convolution up to rounding. (Doing the same along columns would save another third, but leaves matrix
products that were slower by more than that.)
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_KERNEL_SUMS = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))


class WinogradConvolution:
    """A 3x3 convolution with its kernel made ready, for maps that are channels-last and of even width."""

    def __init__(self, conv: nn.Conv2d) -> None:
        """Make the kernel of a convolution of stride 1 ready."""
        sums = torch.einsum("oihw,kw->kohi", conv.weight, conv.weight.new_tensor(_KERNEL_SUMS))
        self.kernels = sums.contiguous()[:, :, :, None].permute(0, 1, 4, 2, 3)
        self.bias = conv.bias

    def __call__(self, padded: Tensor) -> Tensor:
        """(images, height + 2, width + 2, channels) -> (images, height, width, out channels)."""
        width = padded.shape[2] - 2
        first, second, third, fourth = (padded[:, :, place : place + width - 1 : 2] for place in range(4))
        sums = (first - third, second + third, third - second, second - fourth)
        biases = (None, self.bias, None, None)  # the second product is in both pixels
        products = [
            F.conv2d(one.permute(0, 3, 1, 2), kernel, bias).permute(0, 2, 3, 1)
            for one, kernel, bias in zip(sums, self.kernels, biases, strict=True)
        ]
        result = padded.new_empty(*products[0].shape[:3], 2, products[0].shape[3])
        torch.add(products[0].add_(products[1]), products[2], out=result[:, :, :, 0])
        torch.sub(products[1].sub_(products[2]), products[3], out=result[:, :, :, 1])
        return result.flatten(2, 3)
