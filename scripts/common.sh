# Sourced by the other scripts: where the checkout is, and how to speak to people.
# Kept to what bash 3.2 knows, which is the one that macOS has.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
TWIN_ROOT=$PWD
VENV_PYTHON=$TWIN_ROOT/.venv/bin/python

say() { printf '%s\n' "$*"; }

fail() { # one sentence on standard error, exit status 1
  printf 'error: %s\n' "$*" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

within() { # SECONDS COMMAND…: its status, or 124 where it takes longer (macOS has no `timeout`)
  local tenths=$(($1 * 10)) pid
  shift
  "$@" &
  pid=$!
  while kill -0 "$pid" 2>/dev/null; do
    if [ "$tenths" -le 0 ]; then
      kill "$pid" 2>/dev/null
      wait "$pid" 2>/dev/null
      return 124
    fi
    tenths=$((tenths - 1))
    sleep 0.1
  done
  wait "$pid"
}

find_python() { # prints a Python 3.11 or 3.12 that runs, else fails
  local name
  for name in python3.11 python3.12 python3; do
    if "$name" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' >/dev/null 2>&1; then
      command -v "$name"
      return
    fi
  done
  return 1
}
