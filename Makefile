PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

# Overridden by the rehearsal in tests/test_reproduce.py, which has few scenes and small tables.
POOL :=
COMPARE :=
DISTIL := ACCELERATE_USE_CPU=true OMP_NUM_THREADS=1 $(RUN)/torchrun --nproc_per_node 2 training/train_showo_turbo.py \
	teacher=runs/tiny/model

PIP := $(RUN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help venv demo app test test-plugins test-app app-pictures slow lint format docs reproduce reproduce-clipart
.DEFAULT_GOAL := help

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

# Reinstalled only when the requirements change. constraints.txt pins the tested versions.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) -e '.[dev]'
	touch $@

venv: $(VENV)/.installed-dev  ## create .venv with everything needed for development

demo: $(VENV)/.installed  ## draw images and answer questions: outputs/demo.png
	$(RUN)/showo-turbo demo

$(VENV)/.installed-app: $(VENV)/.installed
	$(PIP) -e '.[app]'
	touch $@

app: $(VENV)/.installed-app  ## serve the page on which images and answers appear pass by pass: http://127.0.0.1:7860
	$(RUN)/showo-turbo app

lint: $(VENV)/.installed-dev  ## check formatting, style and types
	$(RUN)/ruff format --check .
	$(RUN)/ruff check .
	$(RUN)/mypy

test: lint  ## lint, then run the fast tests
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto -m "not slow and not app"

# An environment of its own, since the frameworks pin other versions. The CPU build of torch is enough.
PLUGINS := .venv-plugins
PLUGINS_PIP := $(PLUGINS)/bin/python -m pip install --quiet --disable-pip-version-check
$(PLUGINS)/.installed: pyproject.toml constraints.txt tests/plugins/requirements.txt tests/plugins/frameworks.txt
	test -x $(PLUGINS)/bin/python || $(PYTHON) -m venv $(PLUGINS)
	$(PLUGINS_PIP) -c constraints.txt -e .
	$(PLUGINS_PIP) -r tests/plugins/requirements.txt
	$(PLUGINS_PIP) --no-deps -r tests/plugins/frameworks.txt
	touch $@

test-plugins: $(PLUGINS)/.installed  ## test the plug-ins of lmms-eval, VLMEvalKit and lm-eval with the real packages
	OMP_NUM_THREADS=1 $(PLUGINS)/bin/python -m pytest tests/plugins

# Debian's Chromium, and axe-core (MPL-2.0), which is fetched for the tests only.
$(VENV)/.browser: $(VENV)/.installed-dev
	command -v chromium >/dev/null || apt-get install -y -qq chromium >/dev/null
	npm install --silent --no-audit --no-fund --prefix $(VENV)/axe axe-core@4.14.1
	touch $@

test-app: $(VENV)/.browser  ## test the page in a browser
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -m app tests/app

app-pictures: $(VENV)/.browser  ## take the pictures of the page: docs/images/app
	OMP_NUM_THREADS=1 $(RUN)/python tests/app/pictures.py docs/images/app

slow: $(VENV)/.installed-dev  ## run the slow tests: full-size models, every documented command
	$(RUN)/python -m pytest -m slow

format: $(VENV)/.installed-dev  ## format and fix in place
	$(RUN)/ruff format .
	$(RUN)/ruff check --fix .

docs: $(VENV)/.installed-dev  ## build the documentation into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict

reproduce: $(VENV)/.installed-dev  ## train the shipped models and make their tables from nothing (about ten hours); resumes where it stopped
	$(RUN)/showo-turbo pretrain text-tokenizer
	$(RUN)/showo-turbo pretrain image-tokenizer config=configs/tiny/image_tokenizer.yaml
	test -e runs/tiny/scene_pool.safetensors || $(RUN)/showo-turbo pretrain scene-pool $(POOL)
	$(RUN)/showo-turbo pretrain showo config=configs/tiny/showo.yaml
	$(RUN)/showo-turbo pretrain showo config=configs/tiny/showo_round_2.yaml
	$(RUN)/showo-turbo pretrain assemble config=configs/tiny/model.yaml
	for seed in 0 1 2; do \
		$(DISTIL) config=configs/tiny/turbo.yaml seed=$$seed output=runs/tiny-turbo/seed-$$seed || exit 1; \
	done
	for stage in star turbo; do test -e runs/tiny-turbo/$$stage || \
		$(RUN)/showo-turbo average runs/tiny-turbo/seed-?/$$stage/model -o runs/tiny-turbo/$$stage || exit 1; done
	$(DISTIL) config=configs/tiny/turbo_finish.yaml
	test -e runs/tiny-turbo/mean || \
		$(RUN)/showo-turbo average runs/tiny-turbo/turbo runs/tiny-turbo/finish/model -o runs/tiny-turbo/mean
	for seed in 9 10 11; do \
		$(DISTIL) config=configs/tiny/turbo_last.yaml seed=$$seed output=runs/tiny-turbo/last-$$seed || exit 1; \
	done
	test -e runs/tiny-turbo/shipped || \
		$(RUN)/showo-turbo average runs/tiny-turbo/mean runs/tiny-turbo/last-*/last/model -o runs/tiny-turbo/shipped
	$(RUN)/showo-turbo compare --teacher runs/tiny/model --student 'Turbo*=runs/tiny-turbo/star' \
		--student Turbo=runs/tiny-turbo/shipped --top-k 8 --top-k 1 -o runs/comparison.json --plot runs/scores.png $(COMPARE)

# `SEED=1` trains the whole chain with other seeds, in a checkout of its own: 1 in first rounds, 11 in second and 12 in third ones.
SEED :=
seeded = $(if $(SEED),loop.seed=$(SEED)$(1))
TURBO := runs/clipart-turbo/seed-$(or $(SEED),0)
DISTIL_CLIPART := OMP_NUM_THREADS=1 $(RUN)/showo-turbo distill teacher=runs/clipart/model seed=$(or $(SEED),0) output=$(TURBO)

reproduce-clipart: $(VENV)/.installed-dev  ## train the models of clip-art from nothing (twelve hours); resumes where it stopped
	$(RUN)/showo-turbo pretrain text-tokenizer config=configs/clipart/text_tokenizer.yaml
	$(RUN)/showo-turbo pretrain image-tokenizer config=configs/clipart/image_tokenizer.yaml $(call seeded)
	$(RUN)/showo-turbo pretrain image-tokenizer config=configs/clipart/image_tokenizer_decoder.yaml $(call seeded,1)
	test -e runs/clipart/scene_pool.safetensors || \
		$(RUN)/showo-turbo pretrain scene-pool config=configs/clipart/scene_pool.yaml $(if $(SEED),seed=$(SEED))
	$(RUN)/showo-turbo pretrain showo config=configs/clipart/showo.yaml $(call seeded)
	$(RUN)/showo-turbo pretrain showo config=configs/clipart/showo_round_2.yaml $(call seeded,1)
	$(RUN)/showo-turbo pretrain showo config=configs/clipart/showo_round_3.yaml $(call seeded,2)
	$(RUN)/showo-turbo pretrain assemble config=configs/clipart/model.yaml
	$(DISTIL_CLIPART) config=configs/clipart/turbo.yaml
	test -e $(TURBO)/closer || $(RUN)/showo-turbo average --shares .35,.35,.3 \
		$(patsubst %,$(TURBO)/%/model,star answers) runs/clipart/model -o $(TURBO)/closer
	$(DISTIL_CLIPART) config=configs/clipart/turbo_finish.yaml student=$(TURBO)/closer
	$(DISTIL_CLIPART) config=configs/clipart/turbo_questions.yaml student=$(TURBO)/finish/model
	$(DISTIL_CLIPART) config=configs/clipart/turbo_more.yaml student=$(TURBO)/counts/model
	test -e $(TURBO)/shipped || $(RUN)/showo-turbo average $(TURBO)/counts/model $(TURBO)/more/model -o $(TURBO)/shipped
