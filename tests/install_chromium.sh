#!/bin/sh
# Installs Debian's Chromium for the test of the page in the browser, unless there is a browser already. Where it cannot be
# installed, the test says so: it is skipped on a developer's machine, and fails in CI.
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then exit 0; fi
done
as_root=
if [ "$(id -u)" -ne 0 ]; then as_root="sudo -n"; fi
if ! { command -v apt-get >/dev/null && $as_root apt-get update -qq &&
  $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; then
  echo "Chromium is not installed, and cannot be installed from here: the page is not tested in a browser" >&2
fi
