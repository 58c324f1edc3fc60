# The page of `acdit demo` in a container. Build the wheel first:
#
#   make dist
#   docker build --tag acdit .
#   docker run --rm --publish 127.0.0.1:7860:7860 --env ACDIT_DEMO_AUTH=USER:PASSWORD acdit
#
# docs/container.md says more.
FROM python:3.12-slim

# Another index to look in, such as that of PyTorch's builds for CPUs, which are much smaller than those with CUDA.
ARG PIP_EXTRA_INDEX_URL=""

# dist/ must hold one wheel: pip refuses the name that several would make.
COPY constraints.txt dist/*.whl /tmp/acdit/
RUN pip install --no-cache-dir --constraint /tmp/acdit/constraints.txt "$(echo /tmp/acdit/*.whl)[demo,video]"

RUN useradd --create-home --uid 1000 acdit
USER acdit
WORKDIR /home/acdit

# The models are in the package, or in folders that are mounted; nothing is fetched.
ENV HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1
EXPOSE 7860

# 401: the page asks for its password, so it is there.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 7860, timeout=4); c.request('GET', '/'); raise SystemExit(c.getresponse().status not in (200, 401))"]

# It binds to all addresses of the container and therefore does not start without ACDIT_DEMO_AUTH.
ENTRYPOINT ["acdit", "demo", "--host", "0.0.0.0", "--port", "7860"]
