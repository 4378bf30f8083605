// The window's feed: one connection that brings what is written, open while something is. Gradio only starts things. The
// panels say what they have when it is opened, so that nothing comes twice, whatever happened to the one before.

import { isWriting } from '../lib/stop.js';
import { former, remember } from './window.js';

export const start = ({ element, props, trigger, watch }) => {
  let source = null, again = 0, failed = 0;   // times in a row that it could not be opened
  let asked = false;   // for news, of which none has come since

  const close = () => {
    clearTimeout(again);
    source?.close();
    source = null;
  };

  const open = () => {
    asked = true;
    if (source || !props.value || !element.isConnected) return;   // gradio brings the key, the value, after the page
    clearTimeout(again);
    const have = {};
    document.dispatchEvent(new CustomEvent('citer-have', { detail: have }));
    let opened = false;
    asked = false;
    source = new EventSource(`${props.path}/${props.value}?${new URLSearchParams(have)}`);
    source.addEventListener('open', () => { opened = true; });
    source.addEventListener('quiet', () => {
      close();
      if (asked) open();   // what was asked for while this was on its way
    });
    for (const panel of props.panels) {
      source.addEventListener(panel, ({ data }) => {
        asked = false;
        document.dispatchEvent(new CustomEvent('citer-news', { detail: { panel, data } }));
      });
    }
    // A connection that broke is opened anew with what is there by then. Where that fails twice, gradio is asked for all that
    // there is, again and again while something is written.
    source.addEventListener('error', () => {
      close();
      failed = opened ? 0 : failed + 1;
      if (failed > 1) trigger('unreached');
      if (failed < 2 || isWriting()) again = setTimeout(open, failed < 2 ? 300 : 2000);
    });
  };

  const tellKey = () => {
    if (!props.value) return;
    document.dispatchEvent(new CustomEvent('citer-key', { detail: props.value }));
    if (props.value === former) remember(former);
    if (asked || props.value === former) open();   // the texts of before the page was loaded
  };

  watch('value', tellKey);
  tellKey();
  document.addEventListener('citer-start', () => {
    if (props.value) remember(props.value);
    open();
  });
  // As soon as the dials are let go: what that changes is written before gradio has answered.
  document.addEventListener('citer-commit', () => { if (document.querySelector('.stream-text .t')) open(); });
  if (isWriting()) open();   // started before this script was there
};
