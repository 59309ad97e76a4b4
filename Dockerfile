# docker build -t vae . && docker run --rm -p 127.0.0.1:8888:8888 vae
FROM python:3.12-slim AS tools
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends git make && rm -rf /var/lib/apt/lists/*
ENV KERAS_BACKEND=tensorflow TF_CPP_MIN_LOG_LEVEL=3
COPY requirements.txt /tmp/
RUN pip install --no-cache-dir --require-hashes -r /tmp/requirements.txt

FROM tools
WORKDIR /vae
COPY . .
RUN pip install --no-cache-dir --no-deps --no-build-isolation -e . && useradd --create-home student && chown -R student .
USER student
EXPOSE 8888
CMD ["jupyter", "lab", "--config=tools/jupyter_config.py", "--notebook-dir=notebooks", "--ip=0.0.0.0", "--no-browser"]
