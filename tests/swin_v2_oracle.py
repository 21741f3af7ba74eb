"""A slow Swin V2 that reads weights by the names of its authors' files.

It follows the paper (arXiv 2111.09883) and SwinMTL's settings. Nothing is tabulated,
rolled or unfolded: every window takes its tokens by their positions.
"""

import itertools
import math

import torch
import torch.nn.functional as F

# Order in which the authors concatenate four neighbours: (row, column).
CORNERS = ((0, 0), (1, 0), (0, 1), (1, 1))


def random_state(embed_dims, depths, num_heads, mlp='cpb_mlp', seed=0):
    """Draw weights with the authors' names; ``mlp`` is the position network's."""
    generator = torch.Generator().manual_seed(seed)
    state = {}

    def draw(name, *shape, scale=0.5):
        state[name] = torch.randn(*shape, generator=generator) * scale

    def draw_norm(name, width):
        state[f'{name}.weight'] = 0.5 + torch.rand(width, generator=generator)
        draw(f'{name}.bias', width)

    # Before a norm, weights are small: the norm's epsilon changes the outputs.
    draw('patch_embed.proj.weight', embed_dims, 3, 4, 4, scale=1e-3)
    draw('patch_embed.proj.bias', embed_dims, scale=1e-3)
    draw_norm('patch_embed.norm', embed_dims)
    for i, (depth, heads) in enumerate(zip(depths, num_heads, strict=True)):
        width = embed_dims * 2**i
        for block in (f'layers.{i}.blocks.{j}' for j in range(depth)):
            draw(f'{block}.attn.qkv.weight', 3 * width, width)
            draw(f'{block}.attn.q_bias', width)
            draw(f'{block}.attn.v_bias', width)
            # exp(logit_scale) is from 10 to 400, on both sides of the limit of 100.
            scales = torch.linspace(math.log(10), math.log(400), heads + 1)[1:]
            state[f'{block}.attn.logit_scale'] = scales.reshape(heads, 1, 1)
            draw(f'{block}.attn.{mlp}.0.weight', 512, 2)
            draw(f'{block}.attn.{mlp}.0.bias', 512)
            draw(f'{block}.attn.{mlp}.2.weight', heads, 512, scale=0.1)
            draw(f'{block}.attn.proj.weight', width, width, scale=1e-3)
            draw(f'{block}.attn.proj.bias', width, scale=1e-3)
            draw_norm(f'{block}.norm1', width)
            draw(f'{block}.mlp.fc1.weight', 4 * width, width)
            draw(f'{block}.mlp.fc1.bias', 4 * width)
            draw(f'{block}.mlp.fc2.weight', width, 4 * width, scale=1e-3)
            draw(f'{block}.mlp.fc2.bias', width, scale=1e-3)
            draw_norm(f'{block}.norm2', width)
        if i < len(depths) - 1:
            merge = f'layers.{i}.downsample'
            draw(f'{merge}.reduction.weight', 2 * width, 4 * width, scale=1e-3)
            draw_norm(f'{merge}.norm', 2 * width)
    draw_norm('norm', width)
    return state


def swin_v2(
    state,
    image,
    depths,
    heads,
    windows,
    pretrained,
    shift,
    corners=CORNERS,
    mlp='cpb_mlp',
):
    """Compute the normalised output of the last stage, float64 (N, C, H, W).

    Args:
        state: Weights as from ``random_state``.
        image: Float (N, 3, H, W).
        depths: Blocks, by stage; so are the following.
        heads: Attention heads.
        windows: Sides of the windows.
        pretrained: The same in pre-training; 0 without.
        shift: Whether odd blocks shift their windows.
        corners: Order of four neighbours in the input of a patch merging.
        mlp: Name of the position network.
    """
    state = {name: tensor.double() for name, tensor in state.items()}
    image = pad_to(image.double().permute(0, 2, 3, 1), 4).permute(0, 3, 1, 2)
    weight, bias = state['patch_embed.proj.weight'], state['patch_embed.proj.bias']
    x = F.conv2d(image, weight, bias, stride=4).permute(0, 2, 3, 1)
    x = norm(state, 'patch_embed.norm', x)
    for i, depth in enumerate(depths):
        for j in range(depth):
            block = f'layers.{i}.blocks.{j}'
            x = x + norm(
                state,
                f'{block}.norm1',
                attend_in_windows(
                    sub_state(state, f'{block}.attn.'),
                    x,
                    heads[i],
                    windows[i],
                    pretrained[i] or windows[i],
                    windows[i] // 2 if shift[i] and j % 2 else 0,
                    mlp,
                ),
            )
            hidden = F.gelu(linear(state, f'{block}.mlp.fc1', x))
            hidden = linear(state, f'{block}.mlp.fc2', hidden)
            x = x + norm(state, f'{block}.norm2', hidden)
        if i < len(depths) - 1:
            x = pad_to(x, 2)
            four = [x[:, row::2, column::2] for row, column in corners]
            merge = f'layers.{i}.downsample'
            x = torch.cat(four, dim=-1) @ state[f'{merge}.reduction.weight'].T
            x = norm(state, f'{merge}.norm', x)
    return norm(state, 'norm', x).permute(0, 3, 1, 2)


def attend_in_windows(state, x, heads, window, pretrained, shift, mlp):
    """Let the tokens of each window attend to each other; ``x`` is (N, H, W, C)."""
    height, width = x.shape[1:3]
    x = pad_to(x, window)
    rows, columns = x.shape[1:3]
    out = torch.full_like(x, torch.nan)
    for top, left in itertools.product(
        range(shift, rows + shift, window), range(shift, columns + shift, window)
    ):
        # A window that leaves the map continues on its other side, as another part.
        row, column = torch.meshgrid(
            torch.arange(top, top + window),
            torch.arange(left, left + window),
            indexing='ij',
        )
        row, column = row.flatten(), column.flatten()
        part = 2 * (row >= rows) + (column >= columns)
        offset = torch.stack([row[:, None] - row, column[:, None] - column], dim=-1)
        bias = position_bias(state, offset, pretrained, mlp)
        bias = bias - 100.0 * (part[:, None] != part)[..., None]
        row, column = row % rows, column % columns
        out[:, row, column] = attend(state, x[:, row, column], heads, bias)
    return out[:, :height, :width]


def position_bias(state, offset, pretrained, mlp):
    """Compute the bias of each head, (L, L, heads), from offsets (L, L, 2)."""
    # Models tabulate the coordinates in float32. Rounded later, outputs differ by 1e-5.
    scaled = offset.float() / (pretrained - 1) * 8
    scaled = (scaled.sign() * (scaled.abs() + 1).log2() / math.log2(8)).double()
    hidden = linear(state, f'{mlp}.0', scaled).relu()
    return 16 * torch.sigmoid(hidden @ state[f'{mlp}.2.weight'].T)


def attend(state, tokens, heads, bias):
    """Attend among ``tokens``, (N, L, C), by cosine, head by head."""
    to_query, to_key, to_value = state['qkv.weight'].chunk(3)
    results = []
    for head, channels in enumerate(torch.arange(tokens.shape[-1]).chunk(heads)):
        query = tokens @ to_query[channels].T + state['q_bias'][channels]
        key = tokens @ to_key[channels].T
        value = tokens @ to_value[channels].T + state['v_bias'][channels]
        cosine = F.normalize(query, dim=-1) @ F.normalize(key, dim=-1).mT
        scale = state['logit_scale'][head].exp().clamp(max=100.0)
        results.append((cosine * scale + bias[..., head]).softmax(-1) @ value)
    return linear(state, 'proj', torch.cat(results, dim=-1))


def pad_to(x, multiple):
    """Pad ``x``, (N, H, W, C), with zeros at the bottom and at the right."""
    bottom, right = -x.shape[1] % multiple, -x.shape[2] % multiple
    return F.pad(x, (0, 0, 0, right, 0, bottom))


def norm(state, name, x):
    weight, bias = state[f'{name}.weight'], state[f'{name}.bias']
    centred = x - x.mean(-1, keepdim=True)
    variance = centred.square().mean(-1, keepdim=True)
    return centred / (variance + 1e-6).sqrt() * weight + bias


def linear(state, name, x):
    return x @ state[f'{name}.weight'].T + state[f'{name}.bias']


def sub_state(state, prefix):
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
