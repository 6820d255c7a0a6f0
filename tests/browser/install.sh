#!/bin/sh
# Sees to it that there is a Chromium for the browser tests. The names are those of chromium.py.
if [ -n "$CHROMIUM" ]; then
    command -v "$CHROMIUM" >/dev/null && exit 0
    echo "CHROMIUM=$CHROMIUM is no program" >&2
    exit 1
fi
for name in chromium chromium-browser google-chrome google-chrome-stable; do
    command -v "$name" >/dev/null && exit 0
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing Chromium for the browser tests (apt-get install chromium) ..."
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core \
        >/dev/null && command -v chromium >/dev/null && exit 0
fi
echo "the browser tests need Chromium or Chrome: install one (Debian: apt-get install chromium)" >&2
echo "or give its path: CHROMIUM=/path/to/chrome make test" >&2
[ -n "$CI" ] && exit 1
echo "without one they are left out: tests/browser" >&2
