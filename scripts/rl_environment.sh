# The environment of stage 3, .venv-rl: TRL with the newest libraries, which LLaMA-Factory does not take. Sourced.
#
# LLaMA-Factory 0.9.5 allows trl up to 0.24, which does not hand on `mm_token_type_ids`, and Qwen2-VL needs these. For vLLM
# on GPUs install a vllm that goes with this torch and transformers into it. RL_VENV=FOLDER: an environment of your own.

# rl_environment NAME: make it where it is missing, put it first in the PATH; NAME is the script's.
rl_environment() {
  local venv="${RL_VENV:-.venv-rl}" wanted free_gb python
  wanted="$(cat scripts/rl.txt scripts/newest.txt | sha256sum)"
  if [ -z "${RL_VENV:-}" ] && [ "$(cat "$venv/.installed" 2> /dev/null)" != "$wanted" ]; then
    free_gb=$(df -Pk . | awk 'NR == 2 {print int($4 / 1048576)}')
    if [ "$free_gb" -lt 9 ]; then
      echo "$1: only $free_gb GB free here, and $venv takes 7 GB; free some space, or set RL_VENV to an environment with trl" >&2
      exit 2
    fi
    echo "$1: installing TRL and the newest libraries into $venv: 7 GB and 3 to 10 minutes" >&2
    rm -f "$venv/.installed"
    [ -x "$venv/bin/python" ] || "${PYTHON:-python3}" -m venv "$venv"
    python="$venv/bin/python"
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --requirement scripts/rl.txt
    "$python" -m pip install --quiet --disable-pip-version-check --no-deps --editable . # for the command
    echo "$wanted" > "$venv/.installed"
  fi
  export PATH="$(cd "$venv" && pwd)/bin:$PATH"
}
