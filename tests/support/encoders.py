"""Small speech encoders of each family of torchaudio's bundles, and sounds for them."""

import numpy as np
import torch
import torchaudio

SMALL = {
    "extractor_conv_layer_config": [(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
    "encoder_embed_dim": 24,
    "encoder_projection_dropout": 0.1,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 4,
    "encoder_num_layers": 3,
    "encoder_num_heads": 4,
    "encoder_attention_dropout": 0.1,
    "encoder_ff_interm_features": 32,
    "encoder_ff_interm_dropout": 0.1,
    "encoder_dropout": 0.1,
    "encoder_layer_drop": 0.5,
    "aux_num_out": None,
}
BASE = {"extractor_mode": "group_norm", "extractor_conv_bias": False, "encoder_layer_norm_first": False}
LARGE = {"extractor_mode": "layer_norm", "extractor_conv_bias": True, "encoder_layer_norm_first": True}
RELATIVE = {"encoder_num_buckets": 32, "encoder_max_distance": 40}
# name -> kind of model, its sizes, whether the waveform is normalised; each stands for a family of torchaudio's bundles
FAMILIES = {
    "wav2vec2 and HuBERT base": ("Wav2Vec2", {**SMALL, **BASE}, False),
    "wav2vec2 and HuBERT large": ("Wav2Vec2", {**SMALL, **LARGE}, True),
    "WavLM base": ("WavLM", {**SMALL, **BASE, **RELATIVE}, False),
    "WavLM large": ("WavLM", {**SMALL, **LARGE, **RELATIVE}, True),
}


def small_model(family):
    kind, sizes, _ = FAMILIES[family]
    build = torchaudio.models.wav2vec2_model if kind == "Wav2Vec2" else torchaudio.models.wavlm_model
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build(**sizes).eval()
        for name, weights in model.named_parameters():  # far from the mild initial ones: a wrong mask must show
            if "attention" in name or "rel_attn" in name:
                torch.nn.init.normal_(weights, std=0.7)
    return model


def sounds(*seconds):
    rng = np.random.default_rng(0)
    return [(rng.normal(0.05, 0.1, int(16000 * s)) * rng.uniform(0.2, 2)).astype(np.float32) for s in seconds]
