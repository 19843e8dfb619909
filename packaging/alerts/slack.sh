#!/bin/sh
# Posts an alert of unwrapd to Slack. docs/guide/alerts.md shows the configuration. The alert comes
# on stdin. If Slack does not take it, this fails, and unwrapd tries again.
set -eu
url=$(cat "${1:?name the file with the URL of an incoming webhook of Slack}")

message=$(jq --compact-output '
    ({
        "unwrapd.destination.down": ":red_circle: Destination *\(.data.id)* is down",
        "unwrapd.destination.up": ":large_green_circle: Destination *\(.data.id)* is up again",
        "unwrapd.delivery.dead": ":warning: \(.data.count) deliveries to *\(.data.id)* were given up",
        "unwrapd.endpoint.failing": ":red_circle: Requests to endpoint *\(.data.id)* cannot be verified",
        "unwrapd.endpoint.silent": ":warning: Endpoint *\(.data.id)* is silent",
        "unwrapd.store.refusing": ":red_circle: The store takes no webhooks",
        "unwrapd.store.accepting": ":large_green_circle: The store takes webhooks again"
    }[.type] // .type) as $headline
    # Slack reads &, < and > as marks.
    | def plain: gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;");
    ((.data.reason // "") | plain) as $reason
    | (if .data.url then " <" + (.data.url | plain) + "|Open>" else "" end) as $link
    | {text: (([$headline, $reason] | map(select(. != "")) | join(": ")) + $link)}
')
# The URL is a secret, so it must not be an argument that other users can see.
printf 'url = "%s"\n' "$url" |
    curl --config - --fail --silent --show-error --max-time 20 --output /dev/null \
        --header 'content-type: application/json' --data-binary "$message"
