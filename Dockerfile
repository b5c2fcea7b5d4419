# lightmatch on a CPU:  docker build -t lightmatch .  &&  docker run --rm -v "$PWD:/data" lightmatch match a.jpg b.jpg
FROM python:3.11-slim
# Of OpenCV and COLMAP.
RUN apt-get update && apt-get install --yes --no-install-recommends libglib2.0-0 libgomp1 && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/lightmatch
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu --constraint constraints.txt .
WORKDIR /data
ENTRYPOINT ["lightmatch"]
CMD ["--help"]
