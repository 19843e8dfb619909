#!/bin/sh
# Opens and resolves incidents of PagerDuty for alerts of unwrapd. docs/guide/alerts.md shows the
# configuration. The alert comes on stdin. If PagerDuty does not take it, this fails, and unwrapd
# tries again.
set -eu
key_file=${1:?name the file with the integration key of a service of PagerDuty}
url=${2:-https://events.pagerduty.com/v2/enqueue}

# jq reads the key from its file: an argument could be seen by other users.
jq --compact-output --rawfile key "$key_file" '
    (.type | test("\\.(up|accepting)$")) as $is_over
    | {
        routing_key: ($key | rtrimstr("\n")),
        event_action: (if $is_over then "resolve" else "trigger" end),
        # The same for the begin and the end of one condition.
        dedup_key: ("unwrapd/" + (.type | ltrimstr("unwrapd.") | sub("\\.(up|down|accepting|refusing)$"; "")) + "/" + .data.id),
        links: [.data.url | select(. != null) | {href: ., text: "Open the page of the gateway"}],
        payload: {
            summary: ([.type + ": " + .data.id, .data.reason] | map(select(. != null)) | join(": "))[:1024],
            source: .data.id,
            severity: (if .type | test("(dead|silent)$") then "warning" else "critical" end)
        }
    }
' | curl --fail --silent --show-error --max-time 20 --output /dev/null \
    --header 'content-type: application/json' --data-binary @- "$url"
