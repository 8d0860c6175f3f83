// Runs on the browser's audio thread, for captions.js: what the microphone hears, as s16le in blocks of 40 ms.

class Recorder extends AudioWorkletProcessor {
  constructor() {
    super();
    this.recording = true;
    this.begin();
    this.port.onmessage = () => {
      this.recording = false;
      this.port.postMessage(this.block.buffer.slice(0, 2 * this.filled));
      this.port.postMessage(null);
    };
  }

  begin() {
    this.block = new Int16Array(Math.round(sampleRate / 25));
    this.filled = 0;
  }

  process([[samples = []]]) {
    for (const sample of samples) {
      this.block[this.filled++] = Math.round(32767 * Math.max(-1, Math.min(1, sample)));
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.buffer, [this.block.buffer]);
        this.begin();
      }
    }
    return this.recording;
  }
}

registerProcessor("recorder", Recorder);
