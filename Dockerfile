# syntax=docker/dockerfile:1
FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /opt/archer
# Only wheels whose hashes are known: nothing is compiled, here or later.
COPY requirements.txt .ci/requirements-build.txt ./
RUN /opt/archer/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements.txt \
    && python -m venv /opt/build \
    && /opt/build/bin/pip install --no-deps --require-hashes --only-binary :all: -r requirements-build.txt
COPY pyproject.toml LICENSE ./
COPY archer_ws ./archer_ws
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /build/dist . \
    && /opt/archer/bin/pip install --no-deps --no-index /build/dist/*.whl \
    && /opt/archer/bin/pip check \
    && /opt/archer/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim
# A number, so that an orchestrator can see that it is not root's.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin archer \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/archer
COPY --from=build /opt/archer /opt/archer
# The base image leaves out its standard library's bytecode. Without it, each start and each health check would compile
# what it imports: half a second of a processor, and a fifth of one.
RUN /opt/archer/bin/python -c "import archer_ws.cli, archer_ws.main, archer_ws.server.server, archer_ws.server.health_check, encodings.idna, runpy, sqlite3"
# The root file system may be read-only: bytecode was written above, and nothing is written later but to /tmp and to the
# volume of conversations and files, which takes over the folder's owner.
ENV PATH=/opt/archer/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 ARCHER_DATA_DIR=/var/lib/archer
VOLUME /var/lib/archer
WORKDIR /srv
USER 10001:10001
EXPOSE 8000
# Where the server listens, by its options or its variables: https://docs.docker.com/reference/dockerfile/#healthcheck
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-m", "archer_ws.server.health_check"]
CMD ["archer-ws", "serve"]
