import { type ReactNode, useState } from "react";
import { Dialog as AriaDialog, Heading, Modal, ModalOverlay } from "react-aria-components";
import { useLanguage } from "../language/language.tsx";
import { Button } from "./Button.tsx";
import styles from "./Dialog.module.css";
import { Failure } from "./Notice.tsx";

interface DialogProps {
  title: string;
  /** At the side for what is looked at beside a list; in the middle for what is asked. */
  place?: "middle" | "side";
  onClose: () => void;
  children: ReactNode;
}

/** Open as long as it is rendered: keeps the focus inside, closes by Escape, gives the focus back. */
export function Dialog({ title, place = "middle", onClose, children }: DialogProps) {
  const { t } = useLanguage();
  return (
    <ModalOverlay
      isOpen
      isDismissable
      className={`${styles.overlay} ${styles[place]}`}
      onOpenChange={(open) => {
        if (!open) onClose();
      }}
    >
      <Modal className={styles.modal ?? ""}>
        <AriaDialog className={styles.dialog ?? ""}>
          <header className={styles.head}>
            <Heading slot="title" level={2} className={styles.title ?? ""}>
              {title}
            </Heading>
            <Button kind="quiet" aria-label={t.states.close} onClick={onClose}>
              ✕
            </Button>
          </header>
          {children}
        </AriaDialog>
      </Modal>
    </ModalOverlay>
  );
}

interface ConfirmProps {
  title: string;
  /** What will happen, and whether it can be undone. */
  children: ReactNode;
  act: string;
  onAct: () => Promise<void>;
  onClose: () => void;
}

/** Asks before something that cannot be taken back. */
export function Confirm({ title, children, act, onAct, onClose }: ConfirmProps) {
  const { t } = useLanguage();
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>(null);
  const onConfirm = async () => {
    setBusy(true);
    setError(null);
    try {
      await onAct();
      onClose();
    } catch (refused) {
      setError(refused);
      setBusy(false);
    }
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <div className={styles.question}>{children}</div>
      {error !== null && <Failure error={error} />}
      <div className={styles.answers}>
        <Button onClick={onClose} autoFocus>
          {t.states.cancel}
        </Button>
        <Button kind="danger" busy={busy} onClick={onConfirm}>
          {act}
        </Button>
      </div>
    </Dialog>
  );
}
