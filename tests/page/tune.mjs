// Modules of Tune touch the document when they are imported.
import './document.mjs';

globalThis.location ??= { search: '', pathname: '/', hash: '' };
globalThis.addEventListener ??= () => {};
export const { recommended, settingsText } = await import('../../assets/page/tune/tune.js');
