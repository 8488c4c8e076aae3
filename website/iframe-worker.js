// The search of the site runs in a worker, and a browser starts none of a page that is a file. There, a hidden frame is one.
"use strict";
if (location.protocol === "file:") {
  const inside = (address) => {
    self.importScripts = (...sources) => sources.reduce((before, source) => before.then(() => new Promise((done, failed) => {
      const script = document.createElement("script");
      script.src = new URL(source, address);
      script.onload = done;
      script.onerror = failed;
      document.body.append(script);
    })), Promise.resolve());
    self.postMessage = (data) => parent.postMessage(data, "*");
  };
  window.Worker = class extends EventTarget {
    constructor(address) {
      super();
      const url = String(new URL(address, location.href));
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.title = "search";
      document.body.append(this.frame);
      const own = this.frame.contentWindow;
      own.document.open();
      own.document.write(`<!doctype html><body><script>(${inside})(${JSON.stringify(url)})<\/script><script src="${url}"><\/script>`);
      own.document.close();
      this.ready = new Promise((done) => own.addEventListener("load", done));  // open() takes listeners away
      window.addEventListener("message", (event) => {
        if (event.source !== own) return;
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        if (this.onmessage) this.onmessage(event);
      });
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {
      this.frame.remove();
    }
  };
}
