# One image for both programs: the orchestrator (the default) and the pages (see deploy/compose.yaml).
#
#   docker build -t llm-orchestrator .
#   docker run --rm -v llm-state:/data -v "$PWD:/tasks" -w /tasks --env-file .env llm-orchestrator \
#       run tasks.jsonl -o - > results.jsonl
#
# With PostgreSQL's driver: docker build --build-arg POSTGRESQL=1 ...; with Ray: --build-arg RAY=1 (docs/scaling.md).

FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements/runtime.lock requirements/postgresql.lock requirements/ray.lock requirements/
RUN python -m venv /opt/venv && \
    /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
        -r requirements/runtime.lock
ARG POSTGRESQL=
RUN if [ -n "$POSTGRESQL" ]; then \
        /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
            -r requirements/postgresql.lock; \
    fi
ARG RAY=
RUN if [ -n "$RAY" ]; then \
        /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes \
            -r requirements/ray.lock; \
    fi

FROM python:3.13-slim
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    ORCHESTRATOR_STATE_DIR=/data
# The user owns only /data, so the process can't change code or packages.
RUN useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin orchestrator && \
    install --directory --mode 0700 --owner orchestrator --group orchestrator /data
COPY --from=build /opt/venv /opt/venv
COPY real_agent_orchestrator.py web_server.py orchestrator.toml pyproject.toml LICENSE /app/
COPY src /app/src
COPY templates /app/templates
COPY static /app/static
COPY examples /app/examples
RUN python -m compileall -q /app
USER 10001
WORKDIR /data
VOLUME /data
EXPOSE 5000
# Ctrl-C and `docker stop` let the calls in flight finish for up to 30 s: use `docker stop --time 45` (default 10 s).
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "/app/real_agent_orchestrator.py"]
# The default command serves the queue; --yes, since there is no terminal to ask on.
CMD ["--yes"]
