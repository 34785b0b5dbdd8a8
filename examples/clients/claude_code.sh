#!/bin/sh
# Claude Code, without a terminal: an answer, and one that needs a tool. It speaks the Anthropic API and streams.
#
#   npm install -g @anthropic-ai/claude-code
#   eval "$(agent-orchestrator env claude-code)"     # sets ANTHROPIC_BASE_URL and ANTHROPIC_AUTH_TOKEN
#   export ANTHROPIC_MODEL=auto ANTHROPIC_SMALL_FAST_MODEL=economy     # so that any provider may answer
#   sh examples/clients/claude_code.sh
set -eu

echo "answer:"
claude --print "Name three rivers in Norway."
echo "tool:"
claude --print 'Please call Bash {"command": "echo 12 degrees", "description": "print"}' --allowedTools Bash
