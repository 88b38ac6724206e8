# Shared by the scripts of tools/: numbered steps that tell their time, and the environment that
# cargo and Bazel expect. Sourced, with the repository's root as the working directory.

STEP=0
STEPS=0
BAZEL=${BAZEL:-bazel}

export HOME=${HOME:-/root}
export USER=${USER:-$(id -un)}
# rustup's cargo, where it is not on PATH. PATH itself stays as it is: it is part of what Bazel's
# cache goes by.
CARGO=$(command -v cargo || echo "$HOME/.cargo/bin/cargo")
# One for all clones, so that the crates of Cargo.lock are compiled once.
export CARGO_TARGET_DIR=${XDG_CACHE_HOME:-$HOME/.cache}/lockstep/rust

# step TITLE: says that the next step begins. STEPS is how many there will be.
step() {
  STEP=$((STEP + 1))
  STEP_TITLE=$1
  STEP_START=$EPOCHREALTIME
  echo "[$STEP/$STEPS] $STEP_TITLE"
}

# step_done [WORDS]: says how the step ended and what it took.
step_done() {
  local seconds
  seconds=$(awk -v a="$STEP_START" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
  echo "[$STEP/$STEPS] ${1:-done} (${seconds} s)"
}

# fail WORDS: ends the script with an error.
fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# Bazel with few words where nobody watches a terminal.
bazel_quietly() {
  local command=$1
  shift
  local flags=()
  [ -t 2 ] || flags=(--color=no --curses=no --show_progress_rate_limit=20 --noshow_loading_progress)
  "$BAZEL" "$command" "${flags[@]}" "$@"
}
