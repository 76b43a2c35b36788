# One image for every process of docker-compose.yml but Postgres.
FROM python:3.11-slim-bookworm

RUN pip install --no-cache-dir 'uv>=0.9,<1'
WORKDIR /app
ENV UV_PYTHON_DOWNLOADS=never UV_LINK_MODE=copy PATH=/app/.venv/bin:$PATH

# Dependencies change less often than the code: a layer of their own.
COPY pyproject.toml uv.lock ./
RUN uv sync --locked --no-dev --no-install-project --compile-bytecode --no-cache

COPY README.md LICENSE ./
COPY config config
COPY dags dags
COPY dbt_project dbt_project
COPY expectations expectations
COPY extracts extracts
COPY ingestion ingestion
COPY reference reference
COPY register register
COPY simulator simulator
COPY stack stack
COPY warehouse warehouse
RUN uv sync --locked --no-dev --compile-bytecode --no-cache

# Nothing but var/ is written at run time.
RUN useradd --system --uid 10001 --no-create-home app && mkdir var && chown app var
USER app
