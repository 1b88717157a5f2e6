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

# What the sample site serves, and how it runs where there is no Docker.
SAMPLE_MEDIUM=https://medium.com/@writer/how-a-lighthouse-keeper-would-run-a-queue-4f1c9a7be203
SAMPLE_GITHUB=https://github.com/writer/tide-tables
SAMPLE_PORT=8888
LOCAL_STATE=${LOCAL_STACK_STATE:-.local}
SAMPLE_PID=$LOCAL_STATE/run/sample-site.pid

sample_runs() { # the sample site of the stack without Docker
  [ -f "$SAMPLE_PID" ] || return 1
  ps -p "$(cat "$SAMPLE_PID")" -o args= 2>/dev/null | grep -q local_stack.sample_site
}

sample_in_docker() { # whether the crawlers' container goes to the sample site
  have docker || return 1
  within 5 docker inspect --format '{{.State.Status}} {{json .Config.Env}}' llm-twin-data-crawlers 2>/dev/null |
    grep -q '^running .*"CRAWLER_PROXY=http://sample-site:'
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
