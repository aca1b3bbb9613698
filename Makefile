# make demo   everything from nothing: a virtual environment, the build, a photograph reconstructed, pictures of a mesh and of the built-in face model
# make test   the tests, in the same environment
#
# TORCH=torch==2.11.0 asks for another torch, PYTHON=python3.12 for another Python, VENV=path for another place.

PYTHON ?= python3
TORCH  ?= torch==2.13.0
VENV   ?= .venv
PY     := $(VENV)/bin/python

.PHONY: demo test sanitize clean
.DELETE_ON_ERROR:

demo: $(VENV)/installed
	@mkdir -p demo
	$(PY) -m benchmarks.meshes demo/head.ply
	$(PY) -m facerender demo/head.ply -o demo/head.png --size 768 --turntable demo/head.gif
	$(PY) -m facerender demo/head.ply -o demo/normals.png --size 768 --yaw 35 --pass normals
	$(PY) -m facerender demo/head.ply -o demo/depth.png --size 768 --yaw 35 --pass depth
	$(PY) -m facemodels sheet -o demo/faces.jpg --viewer demo/viewer.html
	$(PY) -c "import imageio.v3 as iio, skimage.data; iio.imwrite('demo/photo.png', skimage.data.astronaut())"
	$(PY) -m facemodels reconstruct demo/photo.png -o demo --write overlay,landmarks,pose,glb,viewer,coefficients
	@echo
	@echo "In $(CURDIR)/demo:"
	@echo "  photo_overlay.png, photo_landmarks.png, photo_pose.png   the face found in photo.png (NASA's Eileen Collins, public domain, from scikit-image)"
	@echo "  photo_0.glb, photo_0.html                                its mesh, for Blender or a game engine, and to be turned about in a browser"
	@echo "  head.png, head.gif, normals.png, depth.png               a mesh, rendered"
	@echo "  faces.jpg, viewer.html                                   random people of the built-in model, and one to make faces with in a browser"

test: $(VENV)/installed
	$(PY) -m pytest -q

# The C++ under AddressSanitizer and UndefinedBehaviorSanitizer, over the tests; built in a copy, so that the real one stays.
sanitize: $(VENV)/installed
	rm -rf build/sanitized && mkdir -p build/sanitized
	cp -r csrc facerender facemodels benchmarks tests setup.py pyproject.toml README.md LICENSE build/sanitized/
	rm -f build/sanitized/facerender/*.so
	cd build/sanitized && FACERENDER_CUDA=0 FACERENDER_SANITIZE=1 $(abspath $(PY)) setup.py -q build_ext --inplace > build.log 2>&1 || (cat build.log; false)
	cd build/sanitized && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		LD_PRELOAD="$$(g++ -print-file-name=libasan.so) $$(g++ -print-file-name=libubsan.so) $$(g++ -print-file-name=libstdc++.so)" \
		PYTHONPATH=$(CURDIR)/build/sanitized $(abspath $(PY)) -m pytest -q -p no:cacheprovider -k "not nvcc and not exports and not compiles" \
		tests/test_ops.py tests/test_rasterize.py tests/test_edges.py tests/test_texture.py tests/test_topology.py

$(VENV)/installed: setup.py pyproject.toml $(wildcard csrc/*.* csrc/*/*.* csrc/*/*/*.*)
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check "$(TORCH)" "setuptools>=77" pybind11 ninja numpy
	$(PY) -m pip install -q --disable-pip-version-check --no-build-isolation -e ".[dev,photos]"
	@$(PY) -c "import facerender; print('built:', facerender.build_info())"
	@touch $@

clean:
	rm -rf build demo $(VENV) facerender/*.so *.egg-info
