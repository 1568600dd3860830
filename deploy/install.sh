#!/bin/sh
# Installs drift-recorder as a systemd service, or upgrades it. Run as root in a checkout; running it again changes
# nothing. What it does:
#
#   /opt/drift-recorder/releases/NAME   a venv of its own for each version, from deploy/requirements.lock (with hashes)
#   /opt/drift-recorder/current         the version that starts next; a recorder that runs keeps the files of its own
#   /usr/local/bin/drift-recorder       the command
#   /etc/drift-recorder/config.toml     yours: written once, never again; config.toml.example is the newest reference
#   /etc/drift-recorder/credentials     secrets, one file each; only root reads them
#   /var/lib/drift-recorder             the recording; never touched here
#   /etc/systemd/system                 drift-recorder.service, drift-recorder@.service, drift-recorder-page.service
#
# The runbook is README.md beside this file.
set -eu

usage() {
  cat <<'USAGE'
usage: sh deploy/install.sh [--python PYTHON] [--wheels FOLDER] [--upgrade]
       sh deploy/install.sh --uninstall

  --python PYTHON   the interpreter to build on, 3.11 or newer; one the service can read, so none below /root or /home
  --wheels FOLDER   install from these files alone, without a network; made on a machine that has one with
                      pip download --require-hashes -r deploy/requirements.lock -d FOLDER
                      pip wheel --no-deps -w FOLDER .
  --upgrade         then let a running recorder go over to this version, without a hole
  --uninstall       stop and remove everything but /var/lib/drift-recorder and /etc/drift-recorder
USAGE
}

say() { printf 'drift-recorder: %s\n' "$*"; }
fail() { printf 'drift-recorder: %s\n' "$*" >&2; exit 1; }

home=/opt/drift-recorder
units=/etc/systemd/system
etc=/etc/drift-recorder
python=python3
wheels=
upgrade=
uninstall=
while [ $# -gt 0 ]; do
  case $1 in
    --python) [ $# -ge 2 ] || fail "--python needs an interpreter"; python=$2; shift ;;
    --wheels) [ $# -ge 2 ] || fail "--wheels needs a folder"; wheels=$2; shift ;;
    --upgrade) upgrade=yes ;;
    --uninstall) uninstall=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done
[ "$(id -u)" = 0 ] || fail "must be run as root"
cd "$(dirname "$0")/.."
# What is installed can be read by everybody, whatever the umask of whoever installs it.
umask 022

booted() { [ -d /run/systemd/system ]; }
running() { booted && systemctl is-active --quiet "$1"; }

if [ -n "$uninstall" ]; then
  if booted; then
    for unit in $(systemctl list-units --all --plain --no-legend 'drift-recorder*.service' | cut -d' ' -f1); do
      systemctl disable --now "$unit" 2>/dev/null || systemctl stop "$unit" || true
    done
    systemctl disable drift-recorder.service drift-recorder-page.service 2>/dev/null || true
  fi
  rm -f "$units/drift-recorder.service" "$units/drift-recorder@.service" "$units/drift-recorder-page.service"
  rm -f /etc/tmpfiles.d/drift-recorder.conf /usr/local/bin/drift-recorder
  rm -rf "$home" /var/opt/drift-recorder /usr/share/doc/drift-recorder
  if booted; then systemctl daemon-reload; fi
  say "removed; the recording stays in /var/lib/drift-recorder, the configuration in $etc"
  exit 0
fi

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
  fail "$python is not Python 3.11 or newer; install one, or name it with --python"
real=$("$python" -c 'import os, sys; print(os.path.realpath(sys.executable))')
case $real in
  /root/* | /home/*) fail "$real lies below a home folder, which the service cannot see; name another with --python" ;;
esac
"$python" -c 'import venv, ensurepip' 2>/dev/null || fail "$python has no venv module; install it (Debian: python3-venv)"
if [ -n "$wheels" ]; then
  [ -d "$wheels" ] || fail "$wheels: no such folder"
  wheels=$(cd "$wheels" && pwd)
fi

# ---- who it runs as

getent group drift-recorder >/dev/null || groupadd --system drift-recorder
getent passwd drift-recorder >/dev/null ||
  useradd --system --gid drift-recorder --home-dir /var/lib/drift-recorder --no-create-home \
    --shell /usr/sbin/nologin drift-recorder

# ---- the program, a folder for each version

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' recorder/__init__.py)
# Also of what is not released: two checkouts of one version are two releases.
sum=$(find recorder pyproject.toml deploy/requirements.lock -type f ! -name '*.pyc' ! -name '*.so' -print |
  LC_ALL=C sort | xargs sha256sum | sha256sum | cut -c1-10)
release=$home/releases/$version-$sum
if [ -f "$release/complete" ]; then
  say "$version-$sum is installed already"
else
  say "installing $version-$sum"
  rm -rf "$release"
  mkdir -p "$home/releases"
  "$python" -m venv "$release"
  # Nothing is taken that the lock does not name with its hash, the build's own tools included.
  source=.
  set -- --quiet --no-input --disable-pip-version-check --no-cache-dir
  if [ -n "$wheels" ]; then
    set -- "$@" --no-index --find-links "$wheels"
    for built in "$wheels"/drift_recorder-"$version"-*.whl; do
      if [ -f "$built" ]; then source=$built; fi
    done
  fi
  "$release/bin/pip" install "$@" --require-hashes --no-deps --only-binary :all: -r deploy/requirements.lock
  if [ "$source" = . ]; then
    # A copy, so that the checkout stays as it is.
    build=$(mktemp -d)
    trap 'rm -rf "$build"' EXIT
    cp -R pyproject.toml README.md LICENSE recorder "$build"
    source=$build
  fi
  "$release/bin/pip" install "$@" --no-deps --no-build-isolation "$source"
  "$release/bin/drift-recorder" --version
  touch "$release/complete"
fi
before=$(readlink "$home/current" || true)
ln -sfn "releases/$version-$sum" "$home/current.new"
mv -T "$home/current.new" "$home/current"
ln -sfn "$home/current/bin/drift-recorder" /usr/local/bin/drift-recorder
# The empty folder the services see as their root; what they need is bound into it.
mkdir -p /var/opt/drift-recorder/root

# ---- configuration and units

install -d -m 750 -o root -g drift-recorder "$etc"
install -d -m 700 "$etc/credentials"
install -m 640 -o root -g drift-recorder config/velocity-mainnet.toml "$etc/config.toml.example"
if [ ! -e "$etc/config.toml" ]; then
  install -m 640 -o root -g drift-recorder /dev/null "$etc/config.toml"
  sed 's#^root = "data"#root = "/var/lib/drift-recorder/data"#' config/velocity-mainnet.toml >"$etc/config.toml"
  say "wrote $etc/config.toml: look it through before the first start"
fi
for unit in deploy/*.service; do
  install -m 644 "$unit" "$units/$(basename "$unit")"
done
install -m 644 deploy/drift-recorder.tmpfiles /etc/tmpfiles.d/drift-recorder.conf
install -d /usr/share/doc/drift-recorder
install -m 644 deploy/README.md /usr/share/doc/drift-recorder/README.md
install -d -m 750 -o drift-recorder -g drift-recorder /var/lib/drift-recorder
install -d -m 750 -o drift-recorder -g drift-recorder /var/lib/drift-recorder/data
if command -v systemd-tmpfiles >/dev/null; then systemd-tmpfiles --create drift-recorder.conf; fi
if booted; then systemctl daemon-reload; fi
"$home/current/bin/drift-recorder" check "$etc/config.toml" >/dev/null ||
  say "the configuration has to be mended before a start: drift-recorder check $etc/config.toml"

# ---- over to it

if [ -n "$upgrade" ] && running drift-recorder.service; then
  if [ -e "$etc/config.toml" ] && running drift-recorder@config.service; then
    fail "drift-recorder@config records beside it already; stop that first: systemctl stop drift-recorder@config"
  fi
  say "the new version begins to record, beside the old one"
  systemctl start drift-recorder@config.service ||
    fail "the new version does not record, the old one goes on: journalctl -u drift-recorder@config"
  systemctl restart drift-recorder.service ||
    fail "drift-recorder does not start; drift-recorder@config goes on recording: journalctl -u drift-recorder"
  systemctl stop drift-recorder@config.service
  if running drift-recorder-page.service; then systemctl restart drift-recorder-page.service; fi
  say "it records with $version-$sum"
elif running drift-recorder.service && [ "$before" != "releases/$version-$sum" ]; then
  say "the recorder that runs is the old version; go over to this one: sh deploy/install.sh --upgrade"
elif ! running drift-recorder.service; then
  say "check the configuration, then start it:"
  say "  drift-recorder check $etc/config.toml --connect && systemctl enable --now drift-recorder"
fi

# Of what was installed before, the last stays, to go back to; so does what a process still uses.
for old in $(ls -1dt "$home"/releases/*/ | sed 's,/$,,' | grep -vx "$release" | tail -n +2); do
  if ! grep -qslF "$old/" /proc/[0-9]*/cmdline 2>/dev/null; then rm -rf "$old"; fi
done
