# make demo       everything from nothing: a virtual environment, the build, a photo reconstructed, pictures of a mesh
#                 and of the built-in face model, in demo/
# make test       the tests, in the same environment
# make check      formatters, linters and types, as CI runs them; `make format` mends what can be mended
# make docs       the documentation, in site/
# make sanitize   the tests of the ops with the C++ under AddressSanitizer and UndefinedBehaviorSanitizer
# make wheels     sdist and wheel in build/packages/dist, each tried in fresh environments on several torch versions;
#                 downloads several GB
#
# TORCH=torch==2.11.0 asks for another torch, PYTHON=python3.12 for another Python, VENV=path for another place.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv
JOBS   ?= auto
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip install -q --disable-pip-version-check
CXX_FILES = $(sort $(foreach kind,h cuh cpp cu,$(wildcard $(addsuffix /*.$(kind),csrc csrc/* csrc/*/* tests/shim))))

.PHONY: demo test check format docs sanitize wheels clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@mkdir -p demo
	$(PY) -m benchmarks.meshes demo/head.ply
	$(PY) -m facerender demo/head.ply -o demo/head.png --size 768 --turntable demo/head.gif
	$(PY) -m facerender demo/head.ply -o demo/normals.png --size 768 --yaw 35 --pass normals
	$(PY) -m facerender demo/head.ply -o demo/depth.png --size 768 --yaw 35 --pass depth
	$(PY) -m facemodels sheet -o demo/faces.jpg --viewer demo/viewer.html
	$(PY) -c "import imageio.v3 as iio, skimage.data; iio.imwrite('demo/photo.png', skimage.data.astronaut())"
	$(PY) -m facemodels reconstruct demo/photo.png -o demo --write usual,viewer
	@echo
	@echo "In $(CURDIR)/demo:"
	@echo "  photo_overlay.png, photo_landmarks.png,      the face found in photo.png (NASA's Eileen Collins,"
	@echo "  photo_pose.png                               public domain)"
	@echo "  photo_0.glb, photo_0.html                    its mesh for Blender or a game engine, and a page to turn it on"
	@echo "  head.png, head.gif, normals.png, depth.png   a mesh, rendered"
	@echo "  faces.jpg, viewer.html                       random faces of the built-in model, and a page to make faces on"
	@echo
	@echo "The commands and the packages are in $(VENV). With a photo of your own:"
	@echo "  $(VENV)/bin/facemodels reconstruct photo.jpg -o out"
	@echo "  $(VENV)/bin/facemodels --help"
	@echo "or, to leave out $(VENV)/bin/ in this shell:  . $(VENV)/bin/activate"

# One process a core, each with one thread.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(PY) -m pytest -q -n $(JOBS) --dist worksteal

check: $(VENV)/installed
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy
	$(VENV)/bin/clang-format --dry-run -Werror $(CXX_FILES)
	$(PY) -m codespell_lib .

format: $(VENV)/installed
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .
	$(VENV)/bin/clang-format -i $(CXX_FILES)

docs: $(VENV)/installed
	$(PIP) "facerender[docs]"
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# Built in a copy, so that the real library stays.
SANITIZED := build/sanitized
sanitize: $(VENV)/installed
	rm -rf $(SANITIZED) && mkdir -p $(SANITIZED)
	cp -r csrc facerender facemodels benchmarks tests setup.py pyproject.toml README.md LICENSE $(SANITIZED)/
	rm -f $(SANITIZED)/facerender/*.so
	cd $(SANITIZED) && FACERENDER_CUDA=0 FACERENDER_SANITIZE=1 $(abspath $(PY)) setup.py -q build_ext --inplace \
		> build.log 2>&1 || (cat build.log; false)
	cd $(SANITIZED) && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 OMP_NUM_THREADS=2 \
		LD_PRELOAD="$(foreach library,asan ubsan stdc++,$$(g++ -print-file-name=lib$(library).so))" \
		PYTHONPATH=$(CURDIR)/$(SANITIZED) $(abspath $(PY)) -m pytest -q -p no:cacheprovider \
		-k "not nvcc and not exports and not compiles" \
		$(foreach subject,ops rasterize edges texture topology,tests/facerender/test_$(subject).py)

wheels: $(VENV)/installed
	PYTHON=$(abspath $(PY)) .ci/packages full

$(VENV)/installed: setup.py pyproject.toml $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)" "setuptools>=77" ninja numpy
	$(PIP) --no-build-isolation -e ".[dev,all]"
	@$(PY) -c "import facerender; print('built:', facerender.build_info())"
	@touch $@

clean:
	rm -rf build demo site $(VENV) facerender/*.so facerender/_build.py *.egg-info
