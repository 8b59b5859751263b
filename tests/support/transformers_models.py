"""Small speech encoders of transformers with random weights, as folders in that library's layout."""

import torch

SIZES = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
STABLE = {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True}
DECODER = {"vocab_size": 60, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 1, "decoder_start_token_id": 2}
WHISPER = {
    "d_model": 24,
    "num_mel_bins": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 32,
    "decoder_layers": 1,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 32,
    **DECODER,
}
# name -> class, sizes; each stands for a family that runs in a way of its own
FAMILIES = {
    "whisper": ("Whisper", WHISPER),
    "wav2vec2 base": ("Wav2Vec2", SIZES),
    "wav2vec2 large": ("Wav2Vec2", {**SIZES, **STABLE}),
    "hubert": ("Hubert", SIZES),
    "wavlm base": ("WavLM", SIZES),
    "wavlm large": ("WavLM", {**SIZES, **STABLE}),
    "data2vec": ("Data2VecAudio", {**SIZES, "conv_pos_kernel_size": 5, "num_conv_pos_embeddings": 2}),
}


def save_model(folder, family):
    """Write a model of a family with its feature extractor; returns the model."""
    import transformers

    kind, sizes = FAMILIES[family]
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**sizes)).eval()
        for name, weights in model.named_parameters():  # far from the mild initial ones: a wrong mask must show
            if "k_proj.weight" in name or "q_proj.weight" in name or "rel_attn" in name:
                torch.nn.init.normal_(weights, std=0.7)
    model.save_pretrained(folder)
    if kind == "Whisper":
        extractor = transformers.WhisperFeatureExtractor(feature_size=sizes["num_mel_bins"])
    else:
        extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=True)
    extractor.save_pretrained(folder)
    return model
