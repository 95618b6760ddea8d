# The server with the model that ships, on CPUs: docker build -t freeze-omni . && docker run -p 8000:8000 freeze-omni
# Two stages: what builds stays behind. The LLM is in the image, so it runs without a network.
FROM python:3.12-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 FO_CACHE=/opt/fo-cache HF_HUB_OFFLINE=1
RUN python -m venv /opt/fo
ENV PATH=/opt/fo/bin:$PATH
WORKDIR /src
COPY constraints.txt ./
RUN pip install --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0
COPY pyproject.toml README.md LICENSE ./
COPY fo_cli fo_cli
COPY fo_core fo_core
COPY data_prep data_prep
COPY eval eval
RUN pip install --constraint constraints.txt ".[serve]"
# fetches the LLM, converts and prepares it, and tries the image
RUN fo models fetch && fo chat file example --out /tmp/reply.wav

FROM python:3.12-slim-bookworm
RUN useradd --create-home --uid 10001 fo && install -d -o fo -g fo /home/fo/hub
COPY --from=build /opt/fo /opt/fo
COPY --from=build --chown=fo:fo /opt/fo-cache /opt/fo-cache
ENV PATH=/opt/fo/bin:$PATH FO_CACHE=/opt/fo-cache HF_HOME=/home/fo/hub PYTHONUNBUFFERED=1
USER 10001
WORKDIR /home/fo
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/healthz/live', timeout=4)"]
# SIGTERM: no new talks, replies end
STOPSIGNAL SIGTERM
ENTRYPOINT ["fo"]
CMD ["serve", "--host", "0.0.0.0"]
