"""Stand-ins for checkpoints that ship their code: folders whose code honours the call that the model card documents.

They are not those models: each writes down how it was called and answers with that, as JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

CODE = {
    "minicpmv": """
    def chat(self, image=None, msgs=None, tokenizer=None, sampling=True, max_new_tokens=2048, **kwargs):
        assert image is None and tokenizer is not None
        said = [[m["role"], [p if isinstance(p, str) else list(p.size) for p in m["content"]]] for m in msgs]
        return json.dumps({"said": said, "sampling": sampling, "most": max_new_tokens, **kwargs})
""",
    "mplugowl3": """
    def init_processor(self, tokenizer):
        def process(messages, images=None, videos=None):
            assert messages[-1] == {"role": "assistant", "content": ""} and videos is None
            marks = sum(m["content"].count("<|image|>") for m in messages)
            assert marks == len(images or []), (marks, images)
            return BatchFeature({"messages": messages, "sizes": [list(i.size) for i in images or []]})
        return process

    def generate(self, messages, sizes, tokenizer, decode_text, **kwargs):
        assert decode_text
        return [json.dumps({"said": [[m["role"], m["content"]] for m in messages], "sizes": sizes, **kwargs})]
""",
    "internvl_chat": """
    def chat(self, tokenizer, pixel_values, question, generation_config, history=None, return_history=False,
             num_patches_list=None, IMG_START_TOKEN="<img>", IMG_END_TOKEN="</img>",
             IMG_CONTEXT_TOKEN="<IMG_CONTEXT>", verbose=False):
        if pixel_values is not None:
            assert len(pixel_values) == sum(num_patches_list) and pixel_values.dtype == self.dtype
        shape = None if pixel_values is None else list(pixel_values.shape)
        return json.dumps({"said": question, "history": history, "tiles": num_patches_list, "shape": shape,
                           **generation_config})
""",
    "cogvlm": """
    def build_conversation_input_ids(self, tokenizer, *, query, history=None, images=None, template_version=None):
        assert len(images) <= 1
        self.said = {"said": query, "history": history, "sizes": [list(i.size) for i in images]}
        ids = torch.tensor(tokenizer(query)["input_ids"])
        return {"input_ids": ids, "token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids),
                "images": [torch.zeros(3, 4, 4)]}

    def generate(self, input_ids, token_type_ids, attention_mask, images, **kwargs):
        assert images[0][0].dtype == self.dtype and input_ids.shape == token_type_ids.shape == attention_mask.shape
        reply = self.tokenizer_of_the_test(json.dumps({**self.said, **kwargs}))["input_ids"]
        return torch.cat([input_ids, torch.tensor([reply])], dim=1)
""",
    "llavaonevision1_5": """
    def generate(self, input_ids, attention_mask, pixel_values=None, image_grid_thw=None, mm_token_type_ids=None, **kw):
        assert pixel_values is None or pixel_values.dtype == self.dtype
        grid = None if image_grid_thw is None else image_grid_thw.tolist()
        said = self.tokenizer_of_the_test.decode(input_ids[0], skip_special_tokens=False).replace("<|", "< |")
        told = {"said": said, "grid": grid, **kw}
        reply = self.tokenizer_of_the_test(json.dumps(told))["input_ids"]
        return torch.cat([input_ids, torch.tensor([reply])], dim=1)
""",
}

MODELING = """
import json
import torch
from transformers import BatchFeature, PreTrainedModel
from .configuration_stand_in import StandInConfig

class StandIn(PreTrainedModel):
    config_class = StandInConfig

    def __init__(self, config):
        super().__init__(config)
        self.weight = torch.nn.Linear(2, 2, bias=False)
        self.post_init()
{code}
"""
CONFIGURATION = """
from transformers import PreTrainedConfig

class StandInConfig(PreTrainedConfig):
    model_type = "{kind}"
    force_image_size = 56
"""


def own_module_cache(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Where transformers copies shipped code to, for one test alone; what an earlier one imported is forgotten."""
    patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(folder))
    patch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.partition(".")[0] == "transformers_modules"]:
        patch.delitem(sys.modules, name)


def save_stand_in(kind: str, folder: Path, words: Path) -> Path:
    """A folder of `kind` with code, one small weight, and the tokenizer of the folder `words`."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    auto_class = "AutoModelForCausalLM" if kind in ("cogvlm", "llavaonevision1_5") else "AutoModel"
    config = {"auto_map": {"AutoConfig": "configuration_stand_in.StandInConfig",
                           auto_class: "modeling_stand_in.StandIn"}, "dtype": "float32"}  # fmt: skip
    if kind != "cogvlm":
        config["model_type"] = kind
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_stand_in.py").write_text(CONFIGURATION.format(kind=kind))
    (folder / "modeling_stand_in.py").write_text(MODELING.replace("{code}", CODE[kind]))
    save_file({"weight.weight": torch.eye(2)}, folder / "model.safetensors", metadata={"format": "pt"})
    names = {"tokenizer.json", "tokenizer_config.json"}
    if kind == "llavaonevision1_5":  # its processor is Qwen2.5-VL's
        names |= {file.name for file in words.iterdir() if "processor" in file.name or file.suffix == ".jinja"}
    for name in sorted(names):
        (folder / name).write_bytes((words / name).read_bytes())
    return folder
