"""What of keras-hub a model may name: layers and models that only compute.

A list of what is allowed. Left out on purpose: tokenizers, preprocessors and converters (they read files), samplers,
and whatever downloads; a later class is refused until it is added here.
"""

from __future__ import annotations

from typing import Any

_LAYERS = {
    "masked_lm_head": "MaskedLMHead",
    "position_embedding": "PositionEmbedding",
    "reversible_embedding": "ReversibleEmbedding",
    "rotary_embedding": "RotaryEmbedding",
    "sine_position_encoding": "SinePositionEncoding",
    "token_and_position_embedding": "TokenAndPositionEmbedding",
    "transformer_decoder": "TransformerDecoder",
    "transformer_encoder": "TransformerEncoder",
}
_MODELS = {
    "bert.bert_backbone": "BertBackbone",
    "bert.bert_masked_lm": "BertMaskedLM",
    "bert.bert_text_classifier": "BertTextClassifier",
    "bert.bert_text_embedder": "BertTextEmbedder",
    "distil_bert.distil_bert_backbone": "DistilBertBackbone",
    "distil_bert.distil_bert_masked_lm": "DistilBertMaskedLM",
    "distil_bert.distil_bert_text_classifier": "DistilBertTextClassifier",
    "gpt2.gpt2_backbone": "GPT2Backbone",
    "gpt2.gpt2_causal_lm": "GPT2CausalLM",
    "llama.llama_backbone": "LlamaBackbone",
    "llama.llama_causal_lm": "LlamaCausalLM",
    "llama.llama_decoder": "LlamaTransformerDecoder",
    "llama.llama_layernorm": "LlamaLayerNorm",
    "llama3.llama3_backbone": "Llama3Backbone",
    "llama3.llama3_causal_lm": "Llama3CausalLM",
    "mistral.mistral_backbone": "MistralBackbone",
    "mistral.mistral_causal_lm": "MistralCausalLM",
    "mistral.mistral_layer_norm": "MistralLayerNormalization",
    "mistral.mistral_transformer_decoder": "MistralTransformerDecoder",
    "roberta.roberta_backbone": "RobertaBackbone",
    "roberta.roberta_masked_lm": "RobertaMaskedLM",
    "roberta.roberta_text_classifier": "RobertaTextClassifier",
    "vit.vit_backbone": "ViTBackbone",
    "vit.vit_image_classifier": "ViTImageClassifier",
    "vit.vit_layers": "ViTEncoder ViTEncoderBlock ViTPatchingAndEmbedding",
}
CLASSES = frozenset(
    (f"keras_hub.src.{folder}.{module}", name)
    for folder, modules in (("layers.modeling", _LAYERS), ("models", _MODELS))
    for module, names in modules.items()
    for name in names.split()
)
# As Keras writes functions that a package registered.
FUNCTIONS = frozenset({"keras_hub>gelu_approximate", "keras_nlp>gelu_approximate"})


def is_hub(module: Any) -> bool:
    """Whether a module is one of keras-hub."""
    return isinstance(module, str) and module.split(".")[0] == "keras_hub"


def is_registered(name: Any) -> bool:
    """Whether a name is one under which keras-hub registers what Keras then finds by it alone."""
    return isinstance(name, str) and name.startswith(("keras_hub>", "keras_nlp>"))


def names_of(class_name: str) -> frozenset[str | None]:
    """What `registered_name` may say of a class of keras-hub."""
    return frozenset({None, "", class_name, f"keras_hub>{class_name}", f"keras_nlp>{class_name}"})


def is_task(value: Any) -> bool:
    """Whether a part of a config is that of a task model: a backbone with what makes its inputs out of texts or images.

    The latter, the preprocessor, is never read: a pruned model takes what the preprocessor gives.
    """
    return isinstance(value, dict) and "backbone" in value and "preprocessor" in value
