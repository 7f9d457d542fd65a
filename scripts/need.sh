#!/usr/bin/env bash
# Says in one line how to get a tool that is missing. Usage: need.sh cargo python3 …
set -u
missing=0
for tool in "$@"; do
  command -v "$tool" >/dev/null 2>&1 && continue
  missing=1
  case "$tool" in
    cargo) echo "Rust is missing: install it with rustup, see the 'Install Rust' page of the Rust project." >&2 ;;
    python3) echo "Python 3.10 or newer is missing: install it with your system's package manager (Debian, Ubuntu: apt install python3 python3-venv)." >&2 ;;
    node | npm) echo "Node 20.19 or newer, with npm, is missing: install it with your system's package manager, or see the download page of Node.js." >&2 ;;
    c++) echo "A C++ compiler is missing: install it with your system's package manager (Debian, Ubuntu: apt install g++; macOS: xcode-select --install)." >&2 ;;
    cc) echo "A C compiler is missing: install it with your system's package manager (Debian, Ubuntu: apt install gcc; macOS: xcode-select --install)." >&2 ;;
    docker) echo "Docker is missing: it runs Lambda's and LocalStack's containers; see its own install page." >&2 ;;
    *) echo "'$tool' is missing: install it with your system's package manager." >&2 ;;
  esac
done
exit $missing
