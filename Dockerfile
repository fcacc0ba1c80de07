# docker build --build-arg REVISION="$(git rev-parse HEAD)" -t session-health-exporter .
#
# A tag can be moved: for an image that can be built again to the letter, append the digest that
# `docker buildx imagetools inspect python:3.13-slim-trixie` shows.
FROM python:3.13-slim-trixie AS base

FROM base AS builder
WORKDIR /source
COPY . .
RUN scripts/install-release /opt/session-health-exporter

FROM base
# The interpreter stays; what could install something goes.
RUN python -m pip uninstall --quiet --yes --root-user-action=ignore pip && rm -r /usr/local/lib/python3.*/ensurepip
COPY --from=builder /opt/session-health-exporter /opt/session-health-exporter
ENV PATH=/opt/session-health-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1
LABEL org.opencontainers.image.title="session-health-exporter" \
      org.opencontainers.image.description="Prometheus exporter that answers: is our data whole?" \
      org.opencontainers.image.licenses="Apache-2.0"
# By number, so that Kubernetes can see that it is not root.
USER 65532:65532
EXPOSE 10157
STOPSIGNAL SIGTERM
# Answers while the process lives, whatever becomes of the database.
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-IBc", "from http.client import HTTPConnection as C; c = C('127.0.0.1', 10157, timeout=3); c.request('GET', '/-/healthy'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["session-health-exporter"]
CMD ["serve", "--config.file=/etc/session-health-exporter/config.yaml"]
# Last: it changes with each commit.
ARG REVISION=unknown
ENV SESSION_HEALTH_REVISION=$REVISION
LABEL org.opencontainers.image.revision=$REVISION
