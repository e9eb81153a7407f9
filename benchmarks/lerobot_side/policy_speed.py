"""One pass of LeRobot's π0.5 at a time, on demand: the other side of `benchmarks/policy_speed.py`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib.metadata import version

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pi05.configuration_pi05 import PI05Config
from sized_pi05 import Sizes, sized_policy

CAMERAS = ("cam0", "cam1")


def main() -> int:
    """Read 'train' or 'infer' from standard input, do it once, and answer with its CPU seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", help="JSON: of the parts, and batch, chunk, action, prompt, image")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float32"))
    parsed = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shape = json.loads(parsed.sizes)
    batch, horizon, action, prompt, image = (shape.pop(name) for name in ("batch", "chunk", "action", "prompt", "image"))
    sizes = Sizes(**shape)
    visual = PolicyFeature(type=FeatureType.VISUAL, shape=(3, image, image))
    config = PI05Config(
        input_features={f"observation.images.{camera}": visual for camera in CAMERAS},
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(action,))},
        chunk_size=horizon,
        n_action_steps=horizon,
        max_action_dim=action,
        dtype=parsed.dtype,
        device="cpu",
    )
    model = sized_policy(config, sizes).model
    images = [torch.rand(batch, 3, image, image) * 2 - 1 for _ in CAMERAS]
    masks = [torch.ones(batch, dtype=torch.bool) for _ in CAMERAS]
    tokens = torch.randint(0, sizes.vocabulary, (batch, prompt))
    has_token = torch.ones(batch, prompt, dtype=torch.bool)
    actions, noise, times = torch.randn(batch, horizon, action), torch.randn(batch, horizon, action), torch.rand(batch)
    print(json.dumps({"lerobot": version("lerobot"), "parameters": sum(p.numel() for p in model.parameters())}), flush=True)
    for line in sys.stdin:
        start = time.process_time()
        if line.strip() == "train":
            model.train()
            model.forward(images, masks, tokens, has_token, actions, noise, times).mean().backward()
            model.zero_grad(set_to_none=True)
        else:
            model.eval()
            model.sample_actions(images, masks, tokens, has_token, noise=noise, num_steps=10)
        print(time.process_time() - start, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
