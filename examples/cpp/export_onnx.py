"""A class-conditional UNet2DModel for onnxruntime.cpp: unet.onnx, and beside it the same weights as undiffuse reads them.

    python examples/cpp/export_onnx.py FOLDER

Made with torch 2.15.0, diffusers 0.42.1 and onnx 1.23. The weights are random, of a fixed seed: what is shown is that two engines agree. Ten
classes, and an eleventh for none, as a network is trained for classifier-free guidance.
"""

import pathlib
import sys

import torch
from diffusers import DDPMScheduler, UNet2DModel


class Plain(torch.nn.Module):
    """The network as a function of tensors, as ONNX wants it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, sample, timestep, class_labels):
        return self.model(sample, timestep, class_labels=class_labels).sample


def main():
    folder = pathlib.Path(sys.argv[1])
    torch.manual_seed(0)
    model = UNet2DModel(sample_size=16, in_channels=1, out_channels=1, block_out_channels=(16, 32), down_block_types=("DownBlock2D", "AttnDownBlock2D"),
                        up_block_types=("AttnUpBlock2D", "UpBlock2D"), layers_per_block=1, norm_num_groups=8, attention_head_dim=8, num_class_embeds=11).eval()
    model.save_pretrained(folder / "model" / "unet")
    DDPMScheduler().save_pretrained(folder / "model" / "scheduler")
    # A batch of 2, since a batch of 1 would be taken for a constant by the parts that expand it.
    example = (torch.randn(2, 1, 16, 16), torch.tensor([7, 7]), torch.tensor([3, 10]))
    names = ["sample", "timestep", "class_labels"]
    torch.onnx.export(Plain(model), example, folder / "unet.onnx", opset_version=17, input_names=names, output_names=["out"], dynamo=False,
                      dynamic_axes={name: {0: "n"} for name in [*names, "out"]})


if __name__ == "__main__":
    main()
