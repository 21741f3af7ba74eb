"""Make a small SAM 3 with random weights, and compare the labeller with the library.

It runs in the environment of SAM 3, where mmcast is not installed:
``python -I tests/sam3_checks.py FOLDER`` makes the model in a new folder.
"""

import json
import re
import resource
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parents[1]
runpy.run_path(str(HERE / 'mmcast/sam3/__main__.py'), run_name='door')['open_door']()

from PIL import Image  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import (  # noqa: E402
    CLIPTokenizer,
    Sam3Config,
    Sam3ImageProcessor,
    Sam3Model,
    Sam3Processor,
    Sam3VideoConfig,
    Sam3VideoModel,
)

from mmcast.sam3.model import Sam3Labeller, load_model  # noqa: E402

PROMPTS = ['person', 'person on a bicycle', 'car']
SIDE = 112


def config() -> Sam3Config:
    """Return SAM 3's architecture with few channels and layers."""
    small = dict(hidden_size=32, intermediate_size=48, num_attention_heads=2)
    layers = dict(**small, num_layers=2, dropout=0.0)
    return Sam3Config(
        vision_config=dict(
            backbone_config=dict(
                model_type='sam3_vit_model',
                **small,
                num_hidden_layers=2,
                image_size=SIDE,
                pretrain_image_size=56,
                window_size=4,
                global_attn_indexes=[1],
            ),
            fpn_hidden_size=32,
            backbone_feature_sizes=[[32, 32], [16, 16], [8, 8]],
        ),
        text_config=dict(
            **small,
            num_hidden_layers=2,
            vocab_size=600,
            projection_dim=16,
            max_position_embeddings=32,
            eos_token_id=1,
            bos_token_id=0,
        ),
        geometry_encoder_config=layers,
        detr_encoder_config=layers,
        detr_decoder_config=dict(**layers, num_queries=20),
        mask_decoder_config=dict(hidden_size=32, num_attention_heads=2),
    )


def make(folder: Path) -> None:
    """Save model, processor and tokenizer as they are published."""
    torch.manual_seed(0)
    model = Sam3Model(config()).eval()
    for weight in model.parameters():
        if weight.dim() > 1:  # else all instances are alike
            torch.nn.init.normal_(weight, std=0.1)
    folder.mkdir(parents=True)
    letters = [chr(code) for code in range(ord('a'), ord('z') + 1)]
    words = [
        '<|startoftext|>',
        '<|endoftext|>',
        *letters,
        *(f'{x}</w>' for x in letters),
    ]
    (folder / 'vocab.json').write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / 'merges.txt').write_text('#version: 0.2\n')
    tokenizer = CLIPTokenizer(
        str(folder / 'vocab.json'), str(folder / 'merges.txt'), model_max_length=32
    )
    size = dict(height=SIDE, width=SIDE)
    Sam3Processor(Sam3ImageProcessor(size=size), tokenizer).save_pretrained(folder)
    model.save_pretrained(folder)


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (height // 10, width // 10, 3), np.uint8)
    return small.repeat(10, 0).repeat(10, 1)


def error_of(folder: Path) -> str:
    try:
        load_model(folder, 'cpu')
    except ValueError as error:
        return str(error)
    return 'no error'


def published(folder: Path, change: Callable) -> Path:
    """Copy the files, with weights and config in the form of facebook/sam3."""
    changed = folder.with_name(f'{folder.name}_published')
    shutil.copytree(folder, changed, dirs_exist_ok=True)
    weights = load_file(folder / 'model.safetensors')
    weights = {f'detector_model.{name}': weight for name, weight in weights.items()}
    weights['tracker_model.memory'] = torch.zeros(3)
    weights['tracker_neck.convs'] = torch.zeros(3)
    change(weights)
    save_file(weights, changed / 'model.safetensors', metadata=dict(format='pt'))
    inner = json.loads((folder / 'config.json').read_text())
    outer = dict(model_type='sam3_video', detector_config=inner)
    (changed / 'config.json').write_text(json.dumps(outer))
    return changed


def check_loading(folder: Path) -> None:
    """Published names are taken; each other difference is an error."""
    plain = load_model(folder, 'cpu').state_dict()
    whole = load_model(published(folder, lambda weights: None), 'cpu')
    assert whole.state_dict().keys() == plain.keys()
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, plain[name]), name

    name = 'detector_model.text_encoder.text_model.final_layer_norm.weight'

    def rename(weights: dict) -> None:
        weights['detector_model.text_encoder.final_norm.weight'] = weights.pop(name)

    def cut(weights: dict) -> None:
        weights[name] = weights[name][1:].clone()

    for change, message in (
        (lambda weights: weights.pop(name), '1 weights are missing, as text_encoder'),
        (rename, '1 weights are missing, as text_encoder.* unknown, as '),
        (cut, '1 weights are of another shape, as '),
    ):
        found = error_of(published(folder, change))
        assert re.search(message, found), found


def check_names() -> None:
    """The published size has the listed weights."""
    with torch.device('meta'):
        video = Sam3VideoModel(Sam3VideoConfig()).state_dict()
        own = Sam3Model(Sam3VideoConfig()).state_dict()
    lists = runpy.run_path(str(HERE / 'tests/weight_lists.py'))
    assert lists['fold'](video) == lists['fold'](lists['read']('sam3'))
    prefix = 'detector_model.'
    found = {key for key in video if key.startswith(prefix)}
    assert found == {prefix + key for key in own}


def by_library(model, processor, image, prompt, threshold):
    """Run one prompt as the library's documentation shows."""
    # An array of 3 rows could have its channels first.
    inputs = processor(images=Image.fromarray(image), text=prompt, return_tensors='pt')
    with torch.inference_mode():
        outputs = model(**inputs)
    (found,) = processor.post_process_instance_segmentation(
        outputs, threshold=threshold, target_sizes=[image.shape[:2]]
    )
    order = found['scores'].argsort(descending=True, stable=True)
    return {key: value[order] for key, value in found.items()}


def check_results(folder: Path) -> None:
    """Results are the library's, alone and with other prompts; suppression is ours."""
    model = load_model(folder, 'cpu')
    processor = Sam3Processor.from_pretrained(folder)
    image = picture(90, 150)
    alone = {}
    for prompt in PROMPTS:
        labeller = Sam3Labeller(model, processor, [prompt], chunk=1, iou_thr=1.0)
        found = labeller(image, 0.05, 100)
        expected = by_library(model, processor, image, prompt, 0.05)
        some = expected['masks'].flatten(1).any(1)
        assert len(found.scores) == some.sum() > 3, (len(found.scores), some.sum())
        assert len({mask.numpy().tobytes() for mask in found.masks}) > 3
        torch.testing.assert_close(found.scores, expected['scores'][some])
        torch.testing.assert_close(found.boxes, expected['boxes'][some])
        assert torch.equal(found.masks, expected['masks'][some].bool())
        alone[prompt] = found
    best = [found.scores[0].item() for found in alone.values()]
    assert len({*best}) == len(PROMPTS), best
    for chunk in (1, 2, 3):
        labeller = Sam3Labeller(model, processor, PROMPTS, chunk=chunk, iou_thr=1.0)
        every = labeller(image, 0.05, 100)
        assert every.scores.tolist() == sorted(every.scores.tolist(), reverse=True)
        for label, prompt in enumerate(PROMPTS):
            mine = every.labels == label
            torch.testing.assert_close(every.scores[mine], alone[prompt].scores)
            torch.testing.assert_close(every.boxes[mine], alone[prompt].boxes)
            assert torch.equal(every.masks[mine], alone[prompt].masks)
            qualities = every.qualities[mine]
            torch.testing.assert_close(qualities, alone[prompt].qualities)
            assert ((qualities > 0.5) & (qualities <= 1)).all()
    labeller = Sam3Labeller(model, processor, PROMPTS, chunk=3, iou_thr=0.5)
    few = labeller(image, 0.05, 100)
    assert 0 < len(few.scores) < len(every.scores)
    assert len(labeller(image, 0.05, 2).scores) == 2
    assert torch.equal(few.masks[0], every.masks[0])
    labeller.precision = torch.autocast('cpu', torch.bfloat16)
    half = labeller(image, 0.05, 100)
    assert half.scores.dtype == torch.float32
    assert abs(half.scores[0] - few.scores[0]) < 0.05


def check_memory(folder: Path) -> None:
    """The masks of a large image are in memory once."""
    model = load_model(folder, 'cpu')
    processor = Sam3Processor.from_pretrained(folder)
    labeller = Sam3Labeller(model, processor, PROMPTS, chunk=3, iou_thr=1.0)
    labeller(picture(40, 40), 0.0, 40)
    image = picture(40, 40).repeat(75, 0).repeat(75, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    masks = labeller(image, 0.0, 40).masks
    used = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    assert len(masks) >= 30
    assert used < 1.5 * masks.numel(), used / masks.numel()


def check_long_phrases(folder: Path) -> None:
    """The text encoder reads 32 tokens; the error names a longer phrase."""
    model = load_model(folder, 'cpu')
    processor = Sam3Processor.from_pretrained(folder)
    for letters in (30, 31):
        prompts = ['car', ' '.join('a' * letters)]
        try:
            Sam3Labeller(model, processor, prompts, chunk=2, iou_thr=1.0)
            found = 'no error'
        except ValueError as error:
            found = str(error)
        wanted = 'no error' if letters == 30 else r"'a a a.* has 31 tokens, .* reads 30"
        assert re.match(wanted, found.removeprefix('the phrase ')), found


def check_flat_images(folder: Path) -> None:
    """An image of 1, 3 or 4 rows is not taken for one of so many channels."""
    model = load_model(folder, 'cpu')
    processor = Sam3Processor.from_pretrained(folder)
    labeller = Sam3Labeller(model, processor, PROMPTS[:1], chunk=1, iou_thr=1.0)
    for rows in (1, 2, 3, 4):
        image = picture(30, 150)[9 : 9 + rows]
        found = labeller(image, 0.05, 100)
        expected = by_library(model, processor, image, PROMPTS[0], 0.05)
        some = expected['masks'].flatten(1).any(1)
        torch.testing.assert_close(found.scores, expected['scores'][some])


if __name__ == '__main__':
    make(Path(sys.argv[1]))
    check_names()
    check_loading(Path(sys.argv[1]))
    check_results(Path(sys.argv[1]))
    check_memory(Path(sys.argv[1]))
    check_flat_images(Path(sys.argv[1]))
    check_long_phrases(Path(sys.argv[1]))
    print('all checks passed')
