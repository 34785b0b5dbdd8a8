#!/bin/sh
# curl: an answer, a stream and a tool call.
#
#   eval "$(agent-orchestrator env openai)"     # sets OPENAI_BASE_URL and OPENAI_API_KEY
#   sh examples/clients/curl.sh
set -eu
model=${CLIENT_MODEL:-auto}

ask() {
  curl --silent --show-error --fail-with-body --no-buffer "$OPENAI_BASE_URL/chat/completions" \
    --header "Authorization: Bearer $OPENAI_API_KEY" --header "Content-Type: application/json" --data "$1"
}

echo "answer:"
ask '{"model": "'"$model"'", "messages": [{"role": "user", "content": "Name three rivers in Norway."}]}'
echo
echo "stream:"
ask '{"model": "'"$model"'", "stream": true, "messages": [{"role": "user", "content": "Name three lakes in Norway."}]}'
echo
echo "tool:"
ask '{"model": "'"$model"'", "messages": [{"role": "user", "content": "Please call get_weather {\"city\": \"Oslo\"}"}],
  "tools": [{"type": "function", "function": {"name": "get_weather", "parameters":
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]}'
echo
