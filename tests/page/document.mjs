// What modules that touch the document when they are imported find of it: it can be listened to, and has both dials.
globalThis.document = Object.assign(new EventTarget(), { querySelector: () => ({ value: '0', step: '0.01' }) });
