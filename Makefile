# `make demo` and `make test` each create what they need and do the whole job. The environment is .venv in the checkout.
PYTHON ?= python3
BIN := .venv/bin
# Playwright brings a Node of its own, so that no other is needed.
NODE = $(shell $(BIN)/python -c "from playwright._impl._driver import compute_driver_executable as d; print(d()[0])")

# Where a machine forbids compiled files, each process of a test would compile what it imports anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test first-visit slow gpu test-servers check format bench upgrade-check soak soak-cpu soak-short soak-attacks rehearse-space screenshots clean

demo: .venv/.run  ## the page in the browser
	$(BIN)/python app.py

test: .venv/.dev  ## all tests but the slow ones: the page's JavaScript by Node, the rest by pytest; offline, on the tiny pair
	@failed=; \
	$(NODE) --test tests/page/*.test.mjs || failed="$$failed page"; \
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder || failed="$$failed pytest"; \
	if [ -n "$$failed" ]; then echo "FAILED:$$failed (see above)"; exit 1; fi; echo "All parts passed."

first-visit: .venv/.run  ## `make demo` with the tiny pair answers two prompts, with what requirements.txt names
	$(BIN)/python tools/first_visit.py . --make

slow: .venv/.dev  ## the tests that need the real pair's weights
	$(BIN)/python -m pytest -m slow --timeout 3600

gpu: .venv/.dev  ## what needs a CUDA GPU: its tests, and the speed of preset gpu
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m engine.bench --preset gpu
	$(BIN)/python -m tools.product_benchmark --device cuda

test-servers: .venv/.dev  ## an LLM on a real vLLM, in an environment of its own; gigabytes, once
	$(BIN)/python -m tools.real_servers
	$(BIN)/python -m tools.real_run

check: .venv/.dev  ## lint, format, types, and the direction of imports
	find app -name "*.pyi" -delete  # gradio writes these stubs when the page is imported, and pyright would believe old ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

bench: .venv/.dev  ## the engine's speed, on an otherwise idle machine, into docs/speed.md; half an hour for the cpu pair
	$(BIN)/python -m engine.bench --preset $(or $(PRESET),cpu) --write

soak: .venv/.dev  ## visitors and attackers for an hour, kills, and up to 1,000 damaged files of each kind, into docs/reliability.md
	$(BIN)/python -m tools.soak --browsers 2 --kills 30 --mutations 1000 --write

soak-cpu: .venv/.dev  ## an hour with the pair that ships in 4 GB, beside fewer visitors; NF4 needs AVX512-BF16, and int8 takes 1 GB more
	$(BIN)/python -m tools.soak --preset cpu --gigabytes 4 --weights nf4 --browsers 2 --visitors 8 --programs 2 \
		--kills 0 --mutations 0 --write

soak-short: .venv/.dev  ## the same in five minutes, printed, or in less with MINUTES=0.5; `make test` damages the files
	$(BIN)/python -m tools.soak --minutes $(or $(MINUTES),3) --visitors 8 --programs 2 --browsers 1 --attackers 2 \
		--kills $(if $(MINUTES),0,1) --mutations 0

soak-attacks: .venv/.dev  ## each attack alone for MINUTES (3) beside 20 visitors and 4 programs, into docs/reliability.md; goes on where it was
	$(BIN)/python -m tools.soak.one_by_one --minutes $(or $(MINUTES),3) --write

rehearse-space: .venv/.dev  ## a free Hugging Face Space on this machine, into docs/deploy.md; ten minutes, needs python3.12 or 3.13
	$(BIN)/python -m tools.space_rehearsal --write

screenshots: .venv/.dev  ## the pictures of the docs, with the cpu pair
	$(BIN)/python -m tools.screenshots
	$(BIN)/python -m tools.preview_picture  # what other sites show of a link to the page

upgrade-check: .venv/.dev  ## the newest versions of all packages, in .upgrade: which are newer than here, and whether the tests pass
	rm -rf .upgrade && $(PYTHON) -m venv .upgrade
	sed -E '/^-r/d; s/,<[^ ]*//' requirements.txt requirements-dev.txt > .upgrade/newest.txt
	.upgrade/bin/python -m pip install -q --no-compile -r .upgrade/newest.txt
	$(BIN)/python -m pip freeze > .upgrade/here.txt; .upgrade/bin/python -m pip freeze > .upgrade/there.txt
	@diff --suppress-common-lines --side-by-side --width 100 .upgrade/here.txt .upgrade/there.txt || true
	$(MAKE) test BIN=.upgrade/bin

format: .venv/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A stamp per requirements file, so that an environment is completed when they change. Python compiles what is imported when it
# is: all of it at once takes a minute.
.venv/.run: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --no-compile -r requirements.txt
	touch $@

.venv/.dev: .venv/.run requirements-dev.txt
	$(BIN)/python -m pip install -q --no-compile -r requirements-dev.txt
	touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache
