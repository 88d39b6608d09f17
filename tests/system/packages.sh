#!/bin/sh
# The Debian packages of the tests (hosts, networks, a browser): installed where missing, which needs root. Nothing is skipped.
set -eu
missing=
for pair in ip:iproute2 tc:iproute2 ethtool:ethtool ping:iputils-ping ssh:openssh-client sshd:openssh-server \
    unshare:util-linux vde_plug2tap:vde2 wirefilter:vde2 linux.uml:user-mode-linux \
    chromium:chromium chromedriver:chromium-driver "gcc:gcc libc6-dev"; do
    PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null || missing="$missing ${pair#*:}"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" -ne 0 ]; then
    echo "the tests need root and these Debian packages:$missing" >&2
    exit 1
fi
echo "installing$missing"
apt-get -qq update
# Nothing that is installed here starts by itself: the tests start their own sshd.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy" && chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends $missing >/dev/null
